"""A machine in memory whose state directory is on the disk, and commands that are typed on it as the program runs them.

So every file that vmtool keeps can be harmed as a disk, a kill or a person would, and a command meets it for real.
"""

from __future__ import annotations

import copy
import io
import os
import shutil
import stat
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.machine import FakeMachine
from tests.fakes.machine.tree import Inode
from vmtool.cli import main
from vmtool.host import daemons, files, processes
from vmtool.host.local import LocalHost, LocalMachine

# By path: of the state directory on the disk, of everything else in memory.
READS = ("text", "piece", "names", "link", "exists")
WRITES = ("read", "tail", "write", "make_dir", "remove")
# What runs, and so may touch files: these are shown to it, and taken over from it.
RUNS = ("execute", "work", "start_daemon")
# Programs that touch none of them.
ASIDE = ("ip", "iptables", "mount", "stat")
REST = ("run", "beside", "which", "guarded", "busy", "udev", "open_vfio", "start_time", "kill", "accepts", "connect",
        "request", "now", "sleep", "start_writes", "ended", "await_node")


@dataclass(frozen=True)
class Typed:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def hint(self) -> list[str]:
        """The words of the hint, which a person can type; empty when there is none."""
        lines = [line for line in self.err.splitlines() if line.startswith("hint: vmtool ")]
        return lines[-1].split()[2:] if lines else []


class OnDisk:
    """The machine, with its state directory in `root`."""

    def __init__(self, machine: FakeMachine, root: Path) -> None:
        self.machine, self.root = machine, root

    def copy(self, root: Path) -> OnDisk:
        """The same, with files that can be harmed; it lies in the same place, for its paths are in its files."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(root, self.root, symlinks=True)
        return OnDisk(copy.deepcopy(self.machine), self.root)

    def dump(self) -> None:
        """Write what the machine holds of the state directory in memory to the disk, where it is not yet."""
        for path in self.machine.tree.below(str(self.root)):
            self._write(path, self.machine.tree.nodes[path])

    def _write(self, path: str, inode: Inode) -> None:
        place = Path(path)
        if inode.kind == "dir":
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif inode.kind == "file":
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.write_bytes(inode.data)

    def _show(self) -> dict[str, Inode]:
        """The disk's files as the machine's."""
        tree = self.machine.tree
        for path in tree.below(str(self.root)):
            del tree.nodes[path]
        for directory, names, inside in os.walk(self.root):
            for name in names:
                tree.nodes[f"{directory}/{name}"] = Inode("dir", 0o700)
            for name in inside:
                tree.nodes[f"{directory}/{name}"] = _inode(f"{directory}/{name}")
        return {path: copy.copy(tree.nodes[path]) for path in tree.below(str(self.root))}

    def _take(self, before: dict[str, Inode]) -> None:
        """What the machine changed of them."""
        after = {path: self.machine.tree.nodes[path] for path in self.machine.tree.below(str(self.root))}
        for path in sorted(set(before) - set(after), reverse=True):
            files.remove(Path(path))
        for path, inode in after.items():
            if path not in before or before[path].data != inode.data:
                self._write(path, inode)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let vmtool have this machine in the place of the real one."""
        for name in READS + WRITES:
            real = getattr(LocalHost, name)
            patch.setattr(LocalMachine if name in READS else LocalHost, name, self._by_path(name, real))
        for name in RUNS + REST:
            owner = LocalMachine if hasattr(LocalMachine, name) else LocalHost
            patch.setattr(owner, name, self._running(name) if name in RUNS else self._plainly(name))
        living, machine = daemons.living, self.machine

        def in_both(pidfile: Path, *, certain: bool = False) -> int | None:
            return living(pidfile, certain=certain) if self._is_own(pidfile) else machine.living(pidfile)

        patch.setattr(processes, "start_time", self.machine.start_time)
        patch.setattr(processes, "started_at", lambda ticks: 0.0)
        patch.setattr(daemons, "living", in_both)

    def _is_own(self, path: object) -> bool:
        return str(path) == str(self.root) or str(path).startswith(f"{self.root}/")

    def _by_path(self, name: str, real: Any) -> Any:
        def method(host: LocalMachine, path: Any, *words: Any, **options: Any) -> Any:
            options.pop("uid", None)
            if self._is_own(path):
                return real(host, path, *words, **options)
            return getattr(self.machine, name)(path, *words, **options)

        method.__name__ = name
        return method

    def _running(self, name: str) -> Any:
        def method(host: LocalMachine, *words: Any, **options: Any) -> Any:
            if name == "execute" and words[0][0] in ASIDE:
                return self.machine.execute(*words, **options)
            before = self._show()
            try:
                return getattr(self.machine, name)(*words, **options)
            finally:
                self._take(before)

        method.__name__ = name
        return method

    def _plainly(self, name: str) -> Any:
        def method(host: LocalMachine, *words: Any, **options: Any) -> Any:
            return getattr(self.machine, name)(*words, **options)

        method.__name__ = name
        return method


def _inode(path: str) -> Inode:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        return Inode("pipe")
    with open(path, "rb") as file:
        return Inode("file", 0o600, data=file.read(1 << 20))


def typed(root: Path, *words: str, patch: pytest.MonkeyPatch) -> Typed:
    """A command line as the program does it, to its exit code."""
    out, err = io.StringIO(), io.StringIO()
    patch.setattr(sys, "argv", ["vmtool", "--state-dir", str(root), *words])
    patch.setattr(sys, "stdin", io.StringIO())
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main.run_command()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Typed(code, out.getvalue(), err.getvalue())
