"""The containerd that runs: root's process behind the system's socket. What a process says of itself does not make it
one: anybody can start a program under that name."""

from __future__ import annotations

import itertools
import posixpath
import re

from vmtool.facts.process import has_ended, is_nested, user_of
from vmtool.frozen import dataclass
from vmtool.machine import Reader

MAIN = "/etc/containerd/config.toml"
ADDRESS = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Daemon:
    """A running containerd.

    Args:
        config: the file that it was started with.
    """

    pid: int
    config: str


def read_daemon(reader: Reader) -> Daemon | None:
    """The one that listens on the system's socket; where that cannot be known, root's oldest. Without a listener there
    is none: others, such as vmtool's private one, are not the system's."""
    found = [pid for pid in sorted(int(name) for name in reader.names("/proc") if name.isdecimal())
             if _is_containerd(reader, pid)]
    listens = reader.run(("ss", "-xlpHn", "src", ADDRESS)) if found else None
    if listens and listens.status == 0:
        pids = {int(pid) for pid in re.findall(r"\bpid=(\d+)", listens.out)}
        if pids or not listens.out.strip():  # an ordinary user sees the socket, and not whose it is
            found = [pid for pid in found if pid in pids]
    return Daemon(found[0], _config(reader, found[0])) if found else None


def _is_containerd(reader: Reader, pid: int) -> bool:
    """A recorded host has no users of processes; a process that lives always has one. One that is asked for its
    version is no daemon, nor one that has ended and that nobody has waited for."""
    if (reader.text(f"/proc/{pid}/comm") or "").strip() != "containerd" or user_of(reader, pid) not in (0, None):
        return False
    program = reader.link(f"/proc/{pid}/exe") or "containerd"
    return (posixpath.basename(program.removesuffix(" (deleted)")) == "containerd"
            and not is_nested(reader, pid) and not has_ended(reader, pid)
            and "--version" not in (reader.text(f"/proc/{pid}/cmdline") or "").split("\0"))


def _config(reader: Reader, pid: int) -> str:
    words = (reader.text(f"/proc/{pid}/cmdline") or "").split("\0")
    for word, value in itertools.pairwise([*words, ""]):
        name, equals, given = word.partition("=")
        if name in ("--config", "-config", "-c", "--c"):
            return given if equals else value
    return MAIN
