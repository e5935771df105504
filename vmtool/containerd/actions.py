"""Actions on containerd's tasks."""

from __future__ import annotations

import shlex
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.containerd.shims import read_shims
from vmtool.errors import NotReady, VmtoolError
from vmtool.frozen import dataclass
from vmtool.machine import check
from vmtool.plan.action import Action
from vmtool.plan.shell_parts import literal

if TYPE_CHECKING:
    from vmtool.machine import Host

CGROUPS = "/sys/fs/cgroup"
GONE = ("not found", "does not exist")
PAUSE = 0.2
# Seconds until a cgroup has no process any more.
EMPTIED = 10.0


@dataclass(frozen=True)
class DeleteTask(Action):
    """Delete a task of containerd's, and wait until its shim is gone: containerd may be making it at this moment, for
    a `ctr` that was killed. A shim that containerd knows nothing of is killed.

    Args:
        socket, namespace: of containerd.
        deadline: seconds; after a third of it the shim is killed.
    """

    socket: Path
    namespace: str
    name: str
    deadline: float = 60.0

    @property
    def argv(self) -> tuple[str, ...]:
        """How `ctr` is asked for it; it fails when there is no task."""
        return ("ctr", "--address", str(self.socket), "--namespace", self.namespace, "task", "delete", "--force",
                self.name)

    def shell(self) -> str:
        name, address = f"-id {literal(self.name)}", f"-address {literal(str(self.socket))}"
        # runc's shim has its words in the first order, Kata's in the second.
        shim = shlex.quote(f"^[^ ]*containerd-shim[^ ]* -namespace {literal(self.namespace)} "
                           f"({name} {address}|{address} .*{name})( |$)")
        first = self.deadline / 3
        return " || ".join(
            f"timeout {seconds:g} sh -c "
            + shlex.quote(f"while {shlex.join(self.argv)}; {find} -U 0 -f -- {shim}; do sleep {PAUSE:g}; done")
            for seconds, find in ((first, "pgrep"), (self.deadline - first, "pkill -KILL")))

    def do(self, host: Host) -> None:
        begun = host.now()
        while True:
            result = host.execute(self.argv, deadline=60.0)
            shims = self.shims(host)
            if not shims:
                break
            waited = host.now() - begun
            if waited > self.deadline:
                raise VmtoolError(f"the shim (pid {shims[0]}) of {self.name} does not end",
                                  hint="try again; look at dmesg")
            if waited > self.deadline / 3:
                # containerd notices, and clears what the shim had started.
                for pid in shims:
                    host.kill(pid, signal.SIGKILL)
            host.sleep(PAUSE)
        if not any(text in result.out + result.err for text in GONE):
            check(self.argv, result)

    def shims(self, host: Host) -> list[int]:
        """The shims of this container and containerd."""
        return read_shims(host, self.name, self.namespace, {str(self.socket)})


@dataclass(frozen=True)
class WriteZone(Action):
    """Write the time zone that marks the leases of `ctr` calls, see `vmtool.containerd.leases`.

    Args:
        zone: the file; its directory is there.
        west: minutes west of UTC.
    """

    zone: Path
    west: int

    @property
    def data(self) -> bytes:
        """One zone without transitions (RFC 8536, version 1)."""
        counts, offset = struct.pack(">6l", 0, 0, 0, 0, 1, 4), struct.pack(">lbB", -60 * self.west, 0, 0)
        return b"TZif" + bytes(16) + counts + offset + b"VMT\0"

    def shell(self) -> str:
        octal = "".join(f"\\{byte:03o}" for byte in self.data)
        return f"printf '{octal}' | install -m 0600 /dev/stdin {shlex.quote(str(self.zone))}"

    def do(self, host: Host) -> None:
        host.write(self.zone, self.data)


@dataclass(frozen=True)
class DeleteLeases(Action):
    """Delete the leases that killed `ctr` calls left, with all that nothing else holds.

    Args:
        socket, namespace: of containerd.
        filter: which leases, as `ctr` takes it.
    """

    socket: Path
    namespace: str
    filter: str

    def _argv(self, *words: str) -> tuple[str, ...]:
        return ("ctr", "--address", str(self.socket), "--namespace", self.namespace, "leases", *words)

    def shell(self) -> str:
        listed, delete = self._argv("list", "--quiet", self.filter), self._argv("delete", "--sync")
        return f"{shlex.join(listed)} | xargs --no-run-if-empty {shlex.join(delete)}"

    def do(self, host: Host) -> None:
        listed = self._argv("list", "--quiet", self.filter)
        result = host.execute(listed, deadline=60.0)
        check(listed, result)
        if names := result.out.split():
            delete = self._argv("delete", "--sync", *names)
            check(delete, host.execute(delete, deadline=300.0))


@dataclass(frozen=True)
class LimitPids(Action):
    """Make a container's cgroup with a limit on its processes, before there is one: `ctr` has no option for it, and
    runc, which takes a cgroup that is there, leaves the limit as it is.

    Args:
        cgroup: its name below the root; most: processes and threads.
    """

    cgroup: str
    most: int

    def shell(self) -> str:
        return (f"if [ -e {CGROUPS}/cgroup.controllers ]; then echo +pids > {CGROUPS}/cgroup.subtree_control; "
                f"d={CGROUPS}/{self.cgroup}; else d={CGROUPS}/pids/{self.cgroup}; fi; "
                f"mkdir -p $d && echo {self.most} > $d/pids.max")

    def do(self, host: Host) -> None:
        unified = host.exists(f"{CGROUPS}/cgroup.controllers")
        if unified:
            _write(host, f"{CGROUPS}/cgroup.subtree_control", "+pids")
        elif not host.exists(f"{CGROUPS}/pids"):
            raise NotReady("this host has no cgroup controller for the number of processes", hint="vmtool doctor")
        directory = f"{CGROUPS}/{self.cgroup}" if unified else f"{CGROUPS}/pids/{self.cgroup}"
        make = ("mkdir", "-p", directory)
        check(make, host.execute(make, deadline=10.0))
        _write(host, f"{directory}/pids.max", f"{self.most}")


@dataclass(frozen=True)
class RemoveCgroup(Action):
    """Remove the cgroup that `LimitPids` made, unless runc has done so with the container; killed processes may be in
    it for a moment longer."""

    cgroup: str

    @property
    def _places(self) -> tuple[str, str]:
        return f"{CGROUPS}/pids/{self.cgroup}", f"{CGROUPS}/{self.cgroup}"

    def shell(self) -> str:
        return (f"for d in {' '.join(self._places)}; do timeout {EMPTIED:.0f} sh -c "
                "\"until [ ! -d $d ] || rmdir $d; do sleep 0.2; done\"; done")

    def do(self, host: Host) -> None:
        for directory in self._places:
            end, remove = host.now() + EMPTIED, ("rmdir", directory)
            while host.exists(directory):
                result = host.execute(remove, deadline=10.0)
                if result.status and host.now() > end:
                    check(remove, result)
                host.sleep(PAUSE if result.status else 0.0)


def _write(host: Host, file: str, text: str) -> None:
    """A file of a cgroup takes one write, in its place."""
    argv = ("tee", file)
    check(argv, host.execute(argv, deadline=10.0, stdin=f"{text}\n".encode()))
