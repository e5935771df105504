"""containerd, ctr and runc: what is installed, and what answers on the system's socket."""

from __future__ import annotations

import re

from vmtool.containerd.daemon_facts import ADDRESS
from vmtool.facts.versions import read_version, versions
from vmtool.frozen import dataclass
from vmtool.machine import Reader

SHIM = "containerd-shim-runc-v2"


@dataclass(frozen=True)
class ContainerdFacts:
    """containerd on this host.

    Args:
        binary, ctr, shim: absolute paths of containerd, ctr and runc's shim; None when not installed.
        version, ctr_version: of the binaries, such as "1.6.20~ds1".
        address: the system's socket.
        answers: whether a daemon answers there; None when this user may not ask.
        server_version: of the daemon that answers.
        snapshotters: of that daemon, those in order.
    """

    binary: str | None
    version: str | None
    ctr: str | None
    ctr_version: str | None
    shim: str | None
    address: str
    answers: bool | None
    server_version: str | None
    snapshotters: tuple[str, ...]


@dataclass(frozen=True)
class RuncFacts:
    """runc; None when not installed."""

    binary: str | None
    version: str | None


def containerd_questions(reader: Reader) -> tuple[tuple[str, ...], ...]:
    """The programs that `read_containerd` and `read_runc` run whatever is there."""
    return (_kind_of(ADDRESS), *versions(reader, "containerd", "ctr", "runc"))


def _kind_of(address: str) -> tuple[str, ...]:
    return ("stat", "-c", "%F", address)


def read_containerd(reader: Reader, address: str = ADDRESS) -> ContainerdFacts:
    """Look for the binaries and ask the daemon on `address`, if there is one."""
    binary, ctr = reader.which("containerd"), reader.which("ctr")
    answers, server, snapshotters = _ask(reader, ctr, address)
    return ContainerdFacts(
        binary=binary,
        version=read_version(reader, binary, r"containerd \S+ v?(\S+)"),
        ctr=ctr,
        ctr_version=read_version(reader, ctr, r"ctr \S+ v?(\S+)"),
        shim=reader.which(SHIM),
        address=address,
        answers=answers,
        server_version=server,
        snapshotters=snapshotters,
    )


def imports_by_daemon(reader: Reader) -> bool:
    """Whether `ctr images import` lets the daemon import, unless an option says otherwise: the option came with 1.7."""
    version = read_version(reader, reader.which("ctr"), r"ctr \S+ v?(\d+\.\d+)") or "0.0"
    return tuple(map(int, version.split("."))) >= (1, 7)


def read_runc(reader: Reader) -> RuncFacts:
    """Look for runc and its version."""
    binary = reader.which("runc")
    return RuncFacts(binary, read_version(reader, binary, r"runc version (\S+)"))


def _ask(reader: Reader, ctr: str | None, address: str) -> tuple[bool | None, str | None, tuple[str, ...]]:
    """Whether the daemon answers, its version, its snapshotters. ctr tries until its own timeout, hence one second."""
    looked = reader.run(_kind_of(address))
    if looked and looked.status != 0:
        # Its directory is often closed to ordinary users; then nobody knows whether it is there.
        return (None if "Permission denied" in looked.err else False), None, ()
    writable = reader.run(("test", "-w", address))
    if not ctr or not looked or not writable or writable.status != 0:
        return None, None, ()
    client = ("ctr", "--address", address, "--connect-timeout", "1s")
    output = reader.run((*client, "version"), deadline=3.0)
    found = re.search(r"Server:\s+Version:\s+v?(\S+)", output.out) if output else None
    if not output or output.status != 0 or not found:
        return False, None, ()
    plugins = reader.run((*client, "plugins", "ls"), deadline=3.0)
    # Type, id, platforms, status.
    rows = [line.split() for line in (plugins.out if plugins else "").splitlines()]
    usable = [row for row in rows if len(row) == 4 and row[3] == "ok"]
    return True, found[1], tuple(row[1] for row in usable if row[0].startswith("io.containerd.snapshotter."))
