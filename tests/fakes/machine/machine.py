"""A machine in memory that reacts as a real one does: files, processes, networks, containers, devices, guests.

It is a `vmtool.machine.Host`, so the real planners, the real engine and the real actions work on it. A program that has
no fake fails the test.
"""

from __future__ import annotations

import copy
import errno
import posixpath
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.machine import containers, programs
from tests.fakes.machine.call import Call
from tests.fakes.machine.containers import Containerd
from tests.fakes.machine.devices import Devices
from tests.fakes.machine.guests import Guests
from tests.fakes.machine.iptables import Tables
from tests.fakes.machine.network import Links
from tests.fakes.machine.tree import Inode, Tree, error, plain
from tests.fakes.recorded import Recorded
from tests.fakes.sysfs import FakeKernel
from vmtool.errors import ProgramFailed, ProgramMissing, VmtoolError
from vmtool.gpu.pci import DEVICES
from vmtool.host.files import TEMPORARY
from vmtool.isolation import private
from vmtool.machine import Channel, Output, Pairs, Trust
from vmtool.plan.error_report import encode_error

KERNEL = ("/proc", "/sys")
# Whose answers follow the machine's state, whatever was recorded.
LIVE = ("ctr", "ip", "iptables", "nvidia-smi", "stat")


def _nothing() -> None:
    pass


@dataclass
class Process:
    """A process that lives.

    Args:
        socket: where it accepts connections.
        ended: what happens when it ends.
    """

    argv: tuple[str, ...]
    started: str
    program: str = ""
    socket: str = ""
    ended: Callable[[FakeMachine], None] = lambda machine: None


@dataclass
class Later:
    """Something that the kernel, or a daemon, does a moment later."""

    due: float
    do: Callable[[FakeMachine], None] = field(repr=False)


class FakeMachine(FakeKernel):
    """A recorded host whose everything reacts.

    Attributes:
        effects: how many changes it has seen; `watch` is called after each.
        absent: programs that are not installed.
    """

    def __init__(self, recorded: Recorded | None = None, files: Mapping[str, str | bytes | None] | None = None) -> None:
        self.tree = Tree(self.changed)
        self.effects = 0
        self.watch: Callable[[], None] = _nothing
        self.processes: dict[int, Process] = {}
        self.last_pid = 1000
        self.later: list[Later] = []
        self.absent: set[str] = set()
        super().__init__(recorded or Recorded({}), Path("/no/real/files"))
        self._plant(files or {})
        self.links = Links.of(self)
        self.tables = Tables.of(self)
        # Below which directory each containerd keeps its things, by socket; and these, by directory.
        self.roots: dict[str, str] = {}
        self.containerds: dict[str, Containerd] = {}
        # What served models answer, and what one-off containers write, by the module that they run.
        self.answers: dict[str, str] = {}
        # Those that were made by hand, with their limit of processes.
        self.cgroups: dict[str, str] = {}
        self.devices = Devices(self)
        self.guests = Guests(self)

    def _plant(self, files: Mapping[str, str | bytes | None]) -> None:
        """What was recorded, and the test's own files (None for a directory), as files that can be changed."""
        for top in ("/etc/systemd/system", "/dev/vfio", "/run", "/tmp", "/usr/bin", "/var/lib", "/var/cache"):
            self.tree.make_dir(top, parents=0o755)
        self.tree.write("/etc/resolv.conf", b"nameserver 192.0.2.53\n")
        for table in ("texts", "names", "links"):
            mine = {path: value for path, value in self.data[table].items() if not path.startswith(KERNEL)}
            for path, value in mine.items():
                del self.data[table][path]
                if table == "names":
                    self.tree.make_dir(path, parents=0o755)
                    files = {f"{path}/{name}": "" for name in value} | dict(files)
                else:
                    self._add(path, value, "link" if table == "links" else "file")
        for path in [path for path in self.data["exists"] if not path.startswith(KERNEL)]:
            self.data["exists"].remove(path)
            files = {path: ""} | dict(files)
        for path, content in files.items():
            if content is None:
                self.tree.make_dir(path, parents=0o755)
            elif content or not self.tree.find(path):
                self._add(path, content, "file")

    def _add(self, path: str, content: str | bytes, kind: str) -> None:
        self.tree.make_dir(posixpath.dirname(plain(path)), parents=0o755)
        self.tree.put(path, Inode(kind, data=content.encode() if isinstance(content, str) else content))

    # What sees each change, and what is compared after them.

    def changed(self) -> None:
        """After each single change."""
        self.effects += 1
        self.watch()

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeMachine:
        """The machine as it is now, seen by nobody."""
        made = memo[id(self)] = FakeMachine.__new__(FakeMachine)
        for name, value in vars(self).items():
            if name == "data":
                made.data = {table: {key: list(one) if isinstance(one, list) else one for key, one in entries.items()}
                             if isinstance(entries, dict) else entries for table, entries in value.items()}
            else:
                setattr(made, name, _nothing if name == "watch" else copy.deepcopy(value, memo))
        return made

    def state(self) -> dict[str, str]:
        """Everything that a plan can change, for comparing; what the kernel still has to do is done first."""
        self._catch_up(float("inf"))
        tables = {"files": dict(self.tree.seen()), "mounts": sorted(self.tree.mounts),
                  "processes": sorted(process.argv for process in self.processes.values()),
                  "network": self.links.seen(), "iptables": self.tables.seen(), "devices": self.devices.seen(),
                  "containers": {root: one.seen() for root, one in self.containerds.items() if one.seen()},
                  "guests": self.guests.seen(), "cgroups": sorted(self.cgroups)}
        return {f"{table} {name}": repr(value) for table, values in tables.items()
                for name, value in (values.items() if isinstance(values, dict) else [("", values)])}

    def _catch_up(self, until: float) -> None:
        """What others do by themselves ends with nobody's death: it is one change."""
        due, self.later = [one for one in self.later if one.due <= until], [
            one for one in self.later if one.due > until]
        watch, self.watch = self.watch, _nothing
        for one in due:
            one.do(self)
        self.watch = watch
        if due:
            self.changed()

    def soon(self, do: Callable[[FakeMachine], None], seconds: float = 0.1) -> None:
        """Have the kernel do it a moment later."""
        self.later.append(Later(self.clock + seconds, do))

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
        self._catch_up(self.clock)

    # Reading.

    def text(self, path: str) -> str | None:
        if not path.startswith(KERNEL):
            try:
                return self.tree.read(path).decode(errors="replace")
            except OSError:
                return None
        if path == "/proc/self/status":
            return "Uid:\t0\t0\t0\t0\n"  # the sweeps' vmtool is root's
        if path.startswith("/sys/fs/cgroup/vmtool-"):
            directory, file = posixpath.split(path)
            if file == "pids.max":
                return self.cgroups.get(directory)
            return containers.cgroup_text(self, directory.rpartition("vmtool-")[2], file)
        process = self._process(path)
        if process and (found := containers.proc_text(self, int(path.split("/")[2]), posixpath.basename(path))):
            return found
        if process and path.endswith("/status"):
            return "PPid:\t1\nUid:\t0\t0\t0\t0\n"
        return "".join(f"{word}\0" for word in process.argv) if process and path.endswith("/cmdline") else super().text(
            path)

    def _process(self, path: str) -> Process | None:
        words = path.split("/")
        return self.processes.get(int(words[2])) if words[1] == "proc" and words[2].isdecimal() else None

    def names(self, path: str) -> tuple[str, ...]:
        if not path.startswith(KERNEL):
            return tuple(name for name in self.tree.names(path) if not TEMPORARY.fullmatch(name))
        return (*super().names(path), *(map(str, self.processes) if path == "/proc" else ()))

    def link(self, path: str) -> str | None:
        if not path.startswith(KERNEL):
            found = self.tree.find(path)
            return found.data.decode() if found and found.kind == "link" else None
        process = self._process(path)
        return process.program if process and path.endswith("/exe") else super().link(path)

    def exists(self, path: str) -> bool:
        if path in self.cgroups or path == "/sys/fs/cgroup/cgroup.controllers":
            return True
        if path.startswith(KERNEL):
            return super().exists(path) or self._process(path) is not None
        try:
            return bool(self.tree.get(path))
        except OSError:
            return False

    def which(self, program: str) -> str | None:
        if program in self.absent:
            return None
        return super().which(program) or (f"/usr/bin/{program}" if program in programs.PROGRAMS else None)

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        live = posixpath.basename(argv[0]) in LIVE and argv[:2] != ("stat", "-f") and argv[:2] != ("stat", "-c")
        if not live or not self.which(argv[0]):
            return super().run(argv, deadline)
        return self.execute(argv, deadline=deadline)

    def read(self, path: Path) -> bytes:
        return self.tree.read(str(path))

    def tail(self, path: Path, lines: int = 12) -> list[str]:
        return (self.text(str(path)) or "").splitlines()[-lines:]

    # Changing.

    def write(self, path: Path, data: bytes | str, *, mode: int = 0o600, uid: int | None = None) -> None:
        self.tree.make_dir(str(path.parent), 0o700, parents=0o700)
        self._remove_temporaries(path)
        temporary = str(path.with_name(f".{path.name}.0000beef.tmp"))
        self.tree.write(temporary, data.encode() if isinstance(data, str) else data, mode, uid or 0)
        self.tree.rename(temporary, str(path))

    def _remove_temporaries(self, path: Path) -> None:
        """As `vmtool.host.files`: what a kill before the rename left."""
        for name in self.tree.names(str(path.parent)):
            if (found := TEMPORARY.fullmatch(name)) and found[1] == path.name:
                self.tree.remove(str(path.with_name(name)))

    def make_dir(self, path: Path, *, mode: int = 0o700, uid: int = 0) -> None:
        self.tree.make_dir(str(path), 0o700, parents=0o700)
        self.tree.set(str(path), mode=mode, uid=uid)

    def remove(self, path: Path) -> None:
        self._remove_temporaries(path)
        found = self.tree.find(str(path))
        if found and found.kind == "dir" and (mounted := self.tree.mounted_below(str(path))):
            raise VmtoolError(f"{path}: {mounted} is mounted there, so it is not removed", hint=f"umount {mounted}")
        self.tree.remove(str(path))

    def execute(self, argv: Sequence[str], *, deadline: float, env: Pairs = (), stdin: Path | bytes | None = None,
                stdout: Path | None = None) -> Output:
        argv = tuple(argv)
        apart = private(root=True)
        argv = argv[len(apart):] if argv[:len(apart)] == apart else argv
        fake = programs.find(argv)
        if fake is None:
            raise AssertionError(f"this machine has no such program: {argv}")
        call = Call(self, argv[0], argv[1:], dict(env), self.tree.read(str(stdin)) if isinstance(stdin, Path) else
                    stdin or b"")
        if fake.name in self.absent:
            raise ProgramMissing(f"{fake.name}: no such program")
        self.ran.append(argv)
        if stdout:
            self.tree.overwrite(str(stdout), b"")
        result = fake.do(call if fake.words is None else Call(self, fake.name, fake.words, call.env, call.stdin))
        if stdout:
            self.tree.overwrite(str(stdout), result.out.encode())
            result = Output(result.status, "", result.err)
        self.log(f"$ {' '.join(argv)}\n{result.out}{result.err}")
        return result

    def work(self, argv: Sequence[str], stdin: bytes, *, deadline: float, env: Pairs = ()) -> tuple[Output, bytes]:
        """A worker, by its name; one that fails reports it as an error of vmtool's."""
        fake = programs.WORKERS.get(argv[-2])
        if fake is None:
            raise AssertionError(f"this machine has no such worker: {argv}")
        self.ran.append(tuple(argv))
        result = fake(Call(self, argv[-2], (), dict(env), stdin))
        self.log(f"$ {' '.join(argv)}\n{result.out}{result.err}")
        return result, encode_error(ProgramFailed(result.err.strip())) if result.status else b""

    # Processes.

    def start(self, *argv: str, program: str = "", socket: str = "",
              ended: Callable[[FakeMachine], None] = lambda machine: None) -> int:
        """A process that lives from now on; what happens at its end is given the machine, of which there are copies."""
        self.last_pid += 1
        self.processes[self.last_pid] = Process(argv, str(self.last_pid * 10), program or argv[0], socket, ended)
        self.changed()
        return self.last_pid

    def end(self, pid: int) -> None:
        """It ends now, if it lives."""
        if process := self.processes.pop(pid, None):
            process.ended(self)
            self.changed()

    def living(self, pidfile: Path) -> int | None:
        words = (self.text(str(pidfile)) or "").split()
        process = self.processes.get(int(words[0])) if words and words[0].isdecimal() else None
        return int(words[0]) if process and words[1:] in ([], [process.started]) else None

    def start_time(self, pid: int) -> str | None:
        process = self.processes.get(pid)
        return process.started if process else None

    def kill(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))
        if number in (signal.SIGTERM, signal.SIGKILL):
            self.end(pid)

    def start_daemon(self, argv: Sequence[str], pidfile: Path, log: Path) -> None:
        daemon = programs.DAEMONS.get(argv[0])
        if daemon is None:
            raise AssertionError(f"this machine has no such daemon: {argv}")
        if not self.tree.find(str(log)):
            self.tree.write(str(log), b"")
        # As `vmtool.host.daemons.start`: the pid file is there before the program is.
        self.write(pidfile, f"{self.last_pid + 1} {(self.last_pid + 1) * 10}\n")
        pid, argv = self.last_pid + 1, tuple(argv)
        self.soon(lambda machine: daemon(machine, pid, argv) if pid in machine.processes else None, 0.01)
        self.start(*argv)

    def container_work(self, command: Sequence[str], writable: Sequence[str]) -> None:
        """What a one-off container does: it writes into its one bind mount that is not read-only."""
        work = programs.CONTAINER_WORK.get(command[3])
        if work is None:
            raise AssertionError(f"this machine has no such workload: {command}")
        work(self, writable[0])

    def accepts(self, socket: Path) -> bool:
        return any(process.socket == plain(socket) for process in self.processes.values())

    def connect(self, socket: Path) -> Channel:
        if not self.tree.find(str(socket)):
            raise error(errno.ENOENT, str(socket))
        return self.guests.connect(str(socket))

    def request(self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None,
                deadline: float, trust: Trust | None = None) -> tuple[int, str]:
        from tests.fakes.machine.served import answer

        return answer(self, method, url, dict(headers), body)

    # Devices: the bus is `FakeKernel`'s.

    def device_write(self, path: str, text: str) -> int | None:
        answer = super().device_write(path, text)
        self.changed()
        self._make_nodes()
        return answer

    def _make_nodes(self) -> None:
        """VFIO's node of each group that has a device of its."""
        groups = {(self.link(f"{DEVICES}/{bdf}/iommu_group") or "").rpartition("/")[2]
                  for bdf, driver in self.drivers().items() if "vfio" in driver}
        for name in {*groups, *self.tree.names("/dev/vfio")} - {"vfio"}:
            if name not in groups:
                self.tree.unlink(f"/dev/vfio/{name}")
            elif not self.tree.find(f"/dev/vfio/{name}"):
                self.tree.make_dir("/dev/vfio", parents=0o755)
                self.tree.write(f"/dev/vfio/{name}", b"", 0o600)
