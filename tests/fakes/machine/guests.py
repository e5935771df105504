"""Virtual machines: Kata's sandboxes, libvirt's domains, the QEMU of each, and vmtool's agent inside."""

from __future__ import annotations

import errno
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.fakes.machine.call import Call, done, failed
from tests.fakes.machine.tree import error, plain
from vmtool.machine import Output

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine


@dataclass
class Domain:
    """A domain of libvirt's.

    Args:
        pid: of its QEMU; 0 while it does not run.
        channel: the socket of the agent.
        address, key: what the agent was given.
    """

    channel: str
    console: str
    pid: int = 0
    address: str = ""
    key: str = ""


@dataclass
class Guests:
    """All of them. `qemu` gives QEMU's arguments, its program first, for a name such as sandbox-chat."""

    machine: FakeMachine
    domains: dict[tuple[str, str], Domain] = field(default_factory=dict)
    qemu: Callable[[str], tuple[str, ...]] = lambda name: ("/usr/bin/qemu-system-x86_64", "-name", name)

    def seen(self) -> dict[str, Any]:
        return {f"{uri} {name}": bool(domain.pid) for (uri, name), domain in self.domains.items()}

    def start_qemu(self, name: str, append: str = "") -> int:
        argv = list(self.qemu(name))
        if append:
            argv[argv.index("-append") + 1] = append
        return self.machine.start(*argv, program=argv[0])

    def start_sandbox(self, runtime: str, name: str, shim: int, config: str) -> int:
        """Kata's shim starts a QEMU, which containerd takes for the task, and ends it when it is asked to end itself.

        Returns:
            The QEMU's pid; 0 for another runtime.
        """
        pid = 0
        if "kata" in runtime:
            asked = tomllib.loads(self.machine.tree.read(config).decode())["hypervisor"]["qemu"]["kernel_params"]
            pid = self.start_qemu(f"sandbox-{name}", f"panic=1 {asked}")
            self.machine.processes[shim].ended = lambda machine: machine.end(pid)
        return pid

    def serving(self) -> Iterator[tuple[str, str]]:
        """(address, key) of each guest of libvirt's whose workload runs."""
        yield from ((one.address.partition("/")[0], one.key) for one in self.domains.values()
                    if one.pid in self.machine.processes and one.key)

    def connect(self, path: str) -> Channel:
        for domain in self.domains.values():
            if domain.channel == plain(path) and domain.pid in self.machine.processes:
                return Channel(domain, self.machine)
        raise error(errno.ECONNREFUSED, path)

    def off(self, domain: Domain) -> None:
        """QEMU ends, and takes its sockets along."""
        pid, domain.pid = domain.pid, 0
        self.machine.end(pid)


@dataclass
class Channel:
    """A connection to an agent: a question, lines back up to "end"."""

    domain: Domain
    machine: FakeMachine
    heard: bytes = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def settimeout(self, seconds: float | None) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        verb, _, rest = data.decode().strip().partition("\n")
        match verb.split():
            case ["report"]:
                self.heard = b"kernel 6.12.0\nend\n"
            case ["network", address, _]:
                self.domain.address, self.heard = address, b"end\n"
            case ["serve"]:
                self.domain.key, self.heard = rest.splitlines()[0], b"end\n"
            case ["stop"]:
                self.machine.guests.off(self.domain)
            case _:
                self.heard = b"refused an unknown word\nend\n"
        self.machine.changed()

    def recv(self, size: int) -> bytes:
        said, self.heard = self.heard[:size], self.heard[size:]
        return said


def start_domain(call: Call) -> Output:
    """Defined, then started; its files must be there."""
    machine, uri, path = call.machine, call.order["uri"], call.order["xml"]
    text = machine.text(path)
    if text is None:
        return failed(f"[Errno 2] No such file or directory: '{path}'")
    xml = ElementTree.fromstring(text)  # noqa: S314  (vmtool's own rendering)
    name = xml.findtext("name") or ""
    if (uri, name) in machine.guests.domains:
        return failed(f"libvirt: operation failed: domain '{name}' already exists with uuid 1")
    channel = next(each.attrib["path"] for each in xml.iter("source") if each.get("mode") == "bind")
    console = next(each.attrib["path"] for each in xml.iter("source") if "console" in each.get("path", ""))
    domain = machine.guests.domains[uri, name] = Domain(plain(channel), plain(console))
    machine.changed()
    for disk in [each.attrib["file"] for each in xml.iter("source") if "file" in each.attrib]:
        if not machine.exists(disk):
            del machine.guests.domains[uri, name]
            return failed(f"libvirt: Cannot access storage file '{disk}': No such file or directory")
    domain.pid = machine.guests.start_qemu(name)
    for file in (domain.channel, domain.console):
        machine.tree.overwrite(file, b"", 0o600)
    machine.write(Path(call.order["pidfile"]), f"{domain.pid} {machine.start_time(domain.pid)}\n")
    return done()


def end_domain(call: Call) -> Output:
    """Destroyed and undefined; harmless when there is none."""
    machine, uri, name = call.machine, call.order["uri"], call.order["name"]
    domain = machine.guests.domains.get((uri, name))
    if domain:
        machine.guests.off(domain)
        del machine.guests.domains[uri, name]
        machine.changed()
    return done()
