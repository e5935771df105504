"""Asking vmtool's agent in a guest: one line out, lines back up to "end". What comes back is a guest's own word."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.errors import ProgramFailed, VmtoolError
from vmtool.foreign import parse_json
from vmtool.machine import Channel, Host

if TYPE_CHECKING:
    from vmtool.libvirt.actions import GuestRequest

LARGEST = 1 << 18
POLL = 0.2
# Of a console: how many of the last lines are reported, and which of the ones before.
LAST = 12
REASON = re.compile(r"^vmtool: |Kernel panic|is corrupted|Out of memory")


def ask(host: Host, action: GuestRequest) -> str:
    """The guest's answer, without its last line.

    Raises:
        ProgramFailed: QEMU ended, or the deadline passed; the console's last lines are given.
        VmtoolError: the agent refused.
    """
    try:
        with host.connect(action.channel) as channel:
            return exchange(host, channel, action)
    except OSError as error:
        if action.fleeting:
            return ""
        raise _failed(host, action, f"{action.channel}: {error.strerror or error}") from error
    except ProgramFailed:
        if action.fleeting:
            return ""
        raise


def exchange(host: Host, channel: Channel, action: GuestRequest) -> str:
    """As `ask`, on a channel that is open."""
    started, heard = host.now(), b""
    channel.settimeout(POLL)
    question = encode_request(host, action)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # reported below, by what became of QEMU
        channel.sendall(question)
    while not whole(heard):
        waited = host.now() - started
        host.note(f"{waited:.0f} s of at most {action.deadline:.0f} s")
        if not host.living(action.pidfile):
            raise _failed(host, action, "the guest ended")
        if waited > action.deadline or len(heard) > LARGEST:
            raise _failed(host, action, f"the guest did not answer within {action.deadline:.0f} s")
        heard += receive(host, channel)
    answer = heard.decode(errors="replace").replace("\r", "").removesuffix("end\n")
    if action.evidence:
        host.write(action.evidence, answer)
    if refused := [line for line in answer.splitlines() if line.startswith("refused")]:
        raise VmtoolError(f"the guest's agent refused {action.verb}: {refused[0].removeprefix('refused ')}",
                          log=str(action.console))
    return answer


def encode_request(host: Host, action: GuestRequest) -> bytes:
    """What goes to the agent.

    Raises:
        VmtoolError: the file with the address or the keys is not what it should be.
    """
    if action.verb == "network":
        return f"network {' '.join(_address(host, action.source))}\n".encode()
    if action.verb == "serve":
        lines = [line.strip() for line in _text(host, action.source).splitlines() if line.strip()]
        if "." in lines:
            raise VmtoolError(f"{action.source}: a dot alone is no API key")
        return "\n".join(["serve", *lines, ".", ""]).encode()
    return f"{action.verb}\n".encode()


def whole(heard: bytes) -> bool:
    """Whether the last line has come."""
    return heard == b"end\n" or heard.endswith((b"\nend\n", b"\nend\r\n"))


def _address(host: Host, path: Path | None) -> tuple[str, str]:
    try:
        first = parse_json(_text(host, path))["ips"][0]
        return str(first["address"]), str(first["gateway"])
    except (ValueError, LookupError, TypeError) as error:
        raise VmtoolError(f"{path}: has no address and gateway for the guest") from error


def _text(host: Host, path: Path | None) -> str:
    try:
        return host.read(path).decode(errors="replace") if path else ""
    except OSError as error:
        raise VmtoolError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error


def receive(host: Host, channel: Channel) -> bytes:
    try:
        data = channel.recv(4096)
    except TimeoutError:
        return b""
    except ConnectionResetError:
        data = b""  # closed as well, with our question unread: the guest had not opened its port yet
    if not data:
        host.sleep(POLL)  # the other end is closed: QEMU is ending
    return data


def _failed(host: Host, action: GuestRequest, why: str) -> ProgramFailed:
    return ProgramFailed(f"asked for {action.verb}, {why}", details=last_words(host, action.console),
                         log=str(action.console))


def last_words(host: Host, console: Path) -> list[str]:
    """The last lines, and before them those of the lines above that tell why: a kernel's trace follows its reason."""
    said = host.tail(console, 500)
    return [*[line for line in said[:-LAST] if REASON.search(line)][-4:], *said[-LAST:]]
