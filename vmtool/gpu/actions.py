"""Actions on PCI devices."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vmtool.errors import VerificationFailed, VmtoolError
from vmtool.frozen import dataclass
from vmtool.gpu import sysfs_writes, vfio_in_use
from vmtool.gpu.workers import prove
from vmtool.gpu.workers import vfio_in_use as in_use
from vmtool.machine import DeviceWrite, Pairs
from vmtool.plan.action import Action
from vmtool.plan.workers import question, run_worker

if TYPE_CHECKING:
    from vmtool.machine import Host


@dataclass(frozen=True)
class WriteSysfs(Action):
    """Write texts, each with a newline, to files of PCI devices: the devices side by side, a device's files in order.

    Such a write can hang in the kernel for good, so each device has a child process that can be abandoned, and a
    device that hung is marked, to be left alone until the next boot.

    Args:
        writes: (file, text); the file's path or the text holds the device's address.
        when: empty, or of each write (directory of a device, condition at that moment): the name of the driver that
            it is bound to, "" for none, "*" for any as long as the device is there. A write whose condition does not
            hold is left out.
        marks: the directory with a file for each device that hung.
        deadline: seconds for all of it.
        may_fail: a write that the kernel refuses is no failure.
    """

    writes: Pairs
    when: Pairs = ()
    marks: Path = Path("/var/lib/vmtool/gpu/hung")
    deadline: float = 20.0
    may_fail: bool = False

    def shell(self) -> str:
        lines = [f"echo {shlex.quote(text)} > {shlex.quote(path)}" if text else f"echo > {shlex.quote(path)}"
                 for path, text in self.writes]
        if self.when:
            lines = [f"! {_holds(*condition)} || {line}" for line, condition in zip(lines, self.when, strict=False)]
        return "\n".join(f"{{ {line}; }} || :" if self.may_fail else line for line in lines) or ":"

    def do(self, host: Host) -> None:
        conditions = self.when or (("", "*"),) * len(self.writes)
        writes = [DeviceWrite(path, text, directory, driver)
                  for (path, text), (directory, driver) in zip(self.writes, conditions, strict=True)]
        sysfs_writes.write(host, writes, self.marks, self.deadline, may_fail=self.may_fail)
        host.log("".join(f"$ {line}\n" for line in self.shell().splitlines()))


@dataclass(frozen=True)
class ExpectDriver(Action):
    """Read back which driver each device is bound to; a probe that the kernel puts off is waited for.

    Args:
        devices: (directory of a device, name of its driver or "" for none).
        marks: as in `WriteSysfs`; a device that hung in this boot is not asked.
        gone: a device that is not there any more is no failure.
        deadline: seconds.
    """

    devices: Pairs
    marks: Path = Path("/var/lib/vmtool/gpu/hung")
    gone: bool = False
    deadline: float = 5.0

    def shell(self) -> str:
        absent = "[ ! -e {} ] || "
        return "\n".join((absent.format(shlex.quote(directory)) if self.gone else "") + _holds(directory, driver)
                         for directory, driver in self.devices) or ":"

    def do(self, host: Host) -> None:
        end = host.now() + self.deadline
        while wrong := sysfs_writes.wrong_drivers(host, self.devices, self.marks, absent_is_right=self.gone):
            if host.now() > end:
                raise VerificationFailed(
                    "the kernel did not bind as asked",
                    details=[*wrong, *sysfs_writes.kernel_lines(host, [directory for directory, _ in self.devices])],
                    hint="dmesg shows why a driver refused its device")
            host.sleep(sysfs_writes.POLL)


@dataclass(frozen=True)
class AwaitVfioNodes(Action):
    """Wait until devices that VFIO has just taken have their own nodes below /dev/vfio/devices, which IOMMUFD needs.

    The kernel says in /sys whether there will be one (a number, `dev`): without CONFIG_VFIO_DEVICE_CDEV there is none,
    and nothing is waited for.

    Args:
        devices: their directories.
        deadline: seconds for all of them.
    """

    devices: tuple[str, ...]
    deadline: float = 5.0

    def shell(self) -> str:
        wait = ("cd {}/vfio-dev || exit 0\nfor dev in */dev; do "
                "until [ ! -e $dev -o -e /dev/vfio/devices/${{dev%/dev}} ]; do sleep 0.02; done; done")
        return "\n".join(f"timeout {self.deadline:g} sh -c {shlex.quote(wait.format(shlex.quote(directory)))}"
                         for directory in self.devices) or ":"

    def do(self, host: Host) -> None:
        end = host.now() + self.deadline
        nodes = {node: directory for directory in self.devices for node in vfio_in_use.own_nodes(host, directory)}
        late = [node for node in nodes if not host.await_node(node, max(0.0, end - host.now()))]
        if late:
            raise VerificationFailed(
                "a bound device has no node", hint="is devtmpfs mounted on /dev, and what does udevd's journal say?",
                details=[f"{os.path.basename(nodes[node])}: {node} did not appear within {self.deadline:g} s"
                         for node in late])


@dataclass(frozen=True)
class AwaitVfioUnused(Action):
    """Wait until no machine has devices open that VFIO holds: an unbind would wait for it in the kernel, for good.

    While one has, what follows in the same undo is left undone, and is there for another try.

    Args:
        devices: their directories; one that is gone or on another driver is free.
        deadline: seconds; a kernel that unpins a large guest's memory takes many.
    """

    stops_undo: ClassVar[bool] = True

    devices: tuple[str, ...]
    deadline: float = 60.0

    def shell(self) -> str:
        if not self.devices:
            return ":"
        # fuser(1) would not see what the kernel alone still holds.
        held = shlex.join(question(in_use.Order(self.devices)))
        wait = f'until held=$({held}) && [ -z "$held" ]; do sleep 0.2; done'
        return f"timeout {self.deadline:g} sh -c {shlex.quote(wait)}"

    def do(self, host: Host) -> None:
        end = host.now() + self.deadline
        while lines := vfio_in_use.devices_in_use(host, self.devices):
            if host.now() > end:
                raise VmtoolError("not released, since a machine still has it open", details=lines,
                                  hint="end that machine, then: vmtool recover")
            host.sleep(vfio_in_use.POLL)


@dataclass(frozen=True)
class ProveVfio(Action):
    """Prove that a virtual machine could start with bound devices: open them as one does, and note what was seen.

    The work is `vmtool.gpu.workers.prove`'s, done here: what can hang is in a child of its own anyway.

    Args:
        devices: their directories.
        proofs: directory that receives a file for each.
    """

    devices: tuple[str, ...]
    proofs: Path

    def shell(self) -> str:
        return run_worker(prove.Order(self.devices, self.proofs)).shell()

    def do(self, host: Host) -> None:
        prove.run(prove.Order(self.devices, self.proofs), host)


def _holds(directory: str, driver: str) -> str:
    """A test of the shell's that a device is there, has no driver, or is bound to this one."""
    if driver == "*":
        return f"[ -e {shlex.quote(directory)} ]"
    link = shlex.quote(f"{directory}/driver")
    return f'[ "$(basename "$(readlink {link})")" = {shlex.quote(driver)} ]'
