"""LabVm: one lab machine as a context manager. Run commands in it, break it, reboot it, put it back.

A machine starts from a snapshot taken after its first boot, which the cache keeps. Its directory, sockets and processes
go when the block ends, also when it fails; the serial log stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.lab import checkout, qemu
from tests.lab.cache import LabError, Part, ensure
from tests.lab.channel import Channel
from tests.lab.images import CHECKOUT
from tests.lab.lab import Lab
from tests.lab.qmp import Qmp
from tests.lab.rundir import run_directory
from tests.lab.running import Running
from tests.lab.topology import Topology
from vmtool.machine import Output

BOOT_DEADLINE = 240.0
# After the first boot, kept in the cache; and with this checkout in it, which takes an emulated machine seconds.
SNAPSHOT, PUSHED = "booted", "pushed"


class LabVm:
    """A running machine.

    Args:
        from_boot: boot it even where a snapshot could be had.
        interactive: its console is our terminal.
        restored: whether it is put back to where it began, for which it is saved at first.
        disks: further disks, raw and only read; such a machine is booted, since its snapshot would not have them.
    """

    def __init__(self, lab: Lab, topology: Topology, *, from_boot: bool = False, interactive: bool = False,
                 restored: bool = True, disks: Sequence[Path] = ()) -> None:
        self.lab, self.topology, self._disks = lab, topology, disks
        self._from_boot, self._interactive = from_boot or bool(disks), interactive
        self._restored = restored and not interactive
        self._stack = contextlib.ExitStack()
        self._boot = ""

    def __enter__(self) -> LabVm:
        with contextlib.ExitStack() as stack:
            self.directory = run_directory(stack, self.topology.name)
            if not self._from_boot:
                snapshot = ensure(_booted(self.lab, self.topology)).path / "disk.qcow2"
                shutil.copy(snapshot, self.directory / "disk.qcow2")
            else:
                self._new_disk()
            self._start(stack)
            try:
                self._settle(BOOT_DEADLINE) if self._from_boot else self._begin()
            except LabError as error:
                raise LabError(f"{self.topology.name}: {error}\n{self.last_lines()}") from None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def start(self, argv: Sequence[str | os.PathLike[str]], *, deadline: float = 600.0, stdin: bytes = b"",
              env: dict[str, str] | None = None, cwd: str = "/root") -> Running:
        """Start a command in the guest and give it back running; the agent ends it after `deadline` seconds."""
        words = [os.fspath(word) for word in argv]
        head = {"do": "run", "argv": words, "deadline": deadline, "env": env or {}, "cwd": cwd}
        request = self.channel.ask(head, stdin)
        return Running(words, int(request.started()[0].get("pid", 0)), request)

    def run(self, argv: Sequence[str | os.PathLike[str]], deadline: float = 60.0, *, stdin: bytes = b"",
            env: dict[str, str] | None = None, cwd: str = "/root") -> Output:
        """Run a command to its end. DeadlinePassed, with its kernel stack, when it takes too long."""
        return self.start(argv, deadline=deadline, stdin=stdin, env=env, cwd=cwd).wait(deadline + 30)

    def vmtool(self, *words: str | os.PathLike[str], deadline: float = 120.0) -> Output:
        """Run this checkout's vmtool in the guest, in an isolated Python as scripts/setup installs it."""
        return self.run(["vmtool", *words], deadline)

    def sh(self, script: str, deadline: float = 60.0) -> str:
        """Run lines of shell that must succeed, and give what they print without the last newline."""
        result = self.run(["sh", "-euc", script], deadline)
        if result.status:
            raise LabError(f"{script}: exit status {result.status}\n{result.out}{result.err}")
        return result.out.rstrip("\n")

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest, and its directories."""
        self.channel.ask({"do": "put", "path": path, "mode": mode}, data).wait(60)

    def get(self, path: str) -> bytes:
        """A file of the guest."""
        return self.channel.ask({"do": "get", "path": path}).wait(60)[1]

    def kill9(self, pattern: str) -> bool:
        """SIGKILL what has the pattern in its command line, and say whether there was any."""
        return self.run(["pkill", "-KILL", "-f", "--", pattern]).status == 0

    def reboot(self, deadline: float = BOOT_DEADLINE, *, hard: bool = False) -> None:
        """Reboot and wait until it is up.

        In good order, and by force when that does not come to an end; `hard` is the reset button. The arm64 guest has
        no systemd: its disk is synced, then it is reset.
        """
        self.qmp.events.clear()
        if self.topology.arch != "x86_64":
            self.run(["sync"])
            hard = True
        if not hard:
            self.start(["systemctl", "reboot"])
        if hard or not self.qmp.wait_for("RESET", 60):
            self.qmp.command("system_reset")
        self.channel.forget()
        before, end = self._boot, time.monotonic() + deadline
        while self._boot == before:
            self._boot = self.channel.ping(end - time.monotonic())
            time.sleep(0.1)
        self._settle(end - time.monotonic())

    def save(self, name: str) -> None:
        """Keep the machine as it is now; no command may be under way."""
        self.channel.ask({"do": "remember"}).wait(60)
        self._monitor(f"savevm {name}")

    def restore(self, name: str = PUSHED) -> None:
        """Put the machine back to a snapshot, memory and disk; commands under way are given up."""
        self._monitor(f"loadvm {name}")
        self.channel.forget()
        self._wake()

    def push_checkout(self) -> None:
        """Bring in vmtool as it is in the checkout now, compiled, so that a slow guest need not do it."""
        unpack = f"rm -rf {CHECKOUT} && mkdir -p {CHECKOUT} && tar -x -C {CHECKOUT}"
        result = self.run(["sh", "-c", unpack], stdin=checkout.packed())
        if result.status:
            raise LabError(f"the checkout did not get into the guest: {result.err}")

    def last_lines(self, count: int = 15) -> str:
        """The end of what QEMU and the guest's console said."""
        texts = [(self.directory / name).read_text(errors="replace") for name in ("qemu.log", "serial.log")
                 if (self.directory / name).exists()]
        return "\n".join("\n".join(texts).splitlines()[-count:])

    def _monitor(self, line: str) -> None:
        if trouble := self.qmp.monitor(line):
            raise LabError(f"{line}: {trouble}")

    def _new_disk(self) -> None:
        subprocess.run([*self.lab.program("qemu-img"), "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                        str(self.lab.root), str(self.directory / "disk.qcow2")], check=True, timeout=60)

    def _start(self, stack: contextlib.ExitStack) -> None:
        if self.topology.fakes:
            stack.callback(qemu.end, qemu.serve_fakes(self.topology, self.directory))
        extra = qemu.read_only(self._disks) if self._from_boot else ["-loadvm", SNAPSHOT]
        self.process, monitor, agent = qemu.start(self.lab, self.topology, self.directory, *extra,
                                                  interactive=self._interactive)
        stack.callback(qemu.end, self.process)
        try:
            self.qmp = Qmp(monitor)
        except LabError as error:
            raise LabError(f"{self.topology.name}: {error}\n{self.last_lines()}") from None
        stack.callback(self._quit)
        self.channel = Channel(agent)
        stack.callback(self.channel.close)

    def _settle(self, deadline: float) -> None:
        end = time.monotonic() + deadline
        self._boot = self.channel.ping(deadline)
        if self.topology.arch == "x86_64":
            self.run(["systemctl", "is-system-running", "--wait"], max(end - time.monotonic(), 1))
            self.run(["udevadm", "settle"], max(end - time.monotonic(), 1))
        self.push_checkout()

    def _begin(self) -> None:
        """The cache's snapshot, with the checkout of now."""
        self._wake()
        self.push_checkout()
        if self._restored:
            self.save(PUSHED)

    def _wake(self) -> None:
        """After a restore the fakes need their configuration back."""
        self._boot = self.channel.ping(60)
        self.channel.ask({"do": "remind"}).wait(60)

    def _quit(self) -> None:
        with contextlib.suppress(LabError, subprocess.TimeoutExpired):  # qemu.end kills it then
            self.qmp.command("quit", 5)
            self.process.wait(5)
        self.qmp.close()


def _booted(lab: Lab, topology: Topology) -> Part:
    """A disk overlay with the machine's memory as it was after its first boot."""

    def make(target: Path, _scratch: Path, _inputs: tuple[Path, ...]) -> None:
        with LabVm(lab, topology, from_boot=True) as vm:
            vm.save(SNAPSHOT)
            vm.qmp.command("quit", 30)
            vm.process.wait(30)
            shutil.move(vm.directory / "disk.qcow2", target)

    digests = (lab.qemu.digest, lab.kernel.digest, lab.disk.digest)
    fakes = Path(qemu.__file__).with_name("vfu.py").read_text()
    return Part(f"booted-{topology.name}", (*qemu.arguments(lab, topology), *digests, repr(topology), fakes), make)
