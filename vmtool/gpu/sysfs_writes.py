"""Writing to PCI devices without ever hanging with them, and reading back which driver they have."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import IO

from vmtool.errors import ProgramFailed, VerificationFailed, VmtoolError
from vmtool.gpu import write_child
from vmtool.gpu.pci import BDF
from vmtool.gpu.write_child import Attempt, Failure, Write
from vmtool.host import files, processes
from vmtool.plan import ExpectDriver, WriteSysfs

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
POLL = 0.02
HINTS = {
    "EBUSY": "something still uses the device: vmtool gpu status BDF names who",
    "EINVAL": "the driver refused the device, or a virtual machine that used it has only just ended",
    "ENODEV": "the device went away or no driver takes it",
    "ENOENT": "the device went away",
    "EINTR": "the write did not end and was broken off",
}


def write(action: WriteSysfs, log: IO[str]) -> None:
    """Do all writes, each device's in a child of its own, all devices at the same time.

    Raises:
        ProgramFailed: a write failed, or did not end; then the device is marked and its child is left behind.
    """
    running = {_device(writes[0]): start(writes) for writes in by_device(action)}
    hung: dict[str, list[str]] = {}
    failures: list[Failure] = []
    try:
        failures = _collect(running, time.monotonic() + action.deadline)
        for bdf, one in running.items():
            hung[bdf] = one.stuck_at()
            if one.kill():
                failures.append(Failure(one.writes[-1], 4))
                del hung[bdf]
            else:
                _mark(action, bdf, hung[bdf])
    except BaseException:
        # Ctrl-C: what can be killed is; the rest is told by the undo that follows.
        for one in running.values():
            one.kill()
        raise
    finally:
        for one in running.values():
            one.close()
    log.write("".join(f"$ {line}\n" for line in action.shell().splitlines()))
    log.flush()
    if hung or failures:
        raise _failed(action, hung, failures)


def start(writes: list[Write]) -> Attempt:
    """Begin one device's writes; the tests put their own kernel here."""
    return Attempt(writes)


def by_device(action: WriteSysfs) -> list[list[Write]]:
    """The writes of each device, without those that hung in this boot."""
    conditions = action.when or (("", "*"),) * len(action.writes)
    found: dict[str, list[Write]] = {}
    for (path, text), (directory, driver) in zip(action.writes, conditions, strict=True):
        one = Write(path, text, directory, driver)
        found.setdefault(_device(one), []).append(one)
    return [writes for bdf, writes in found.items() if not is_marked(action.marks, bdf)]


def expect(action: ExpectDriver) -> None:
    """Read back.

    Raises:
        VerificationFailed: a device has another driver than it should.
    """
    end = time.monotonic() + action.deadline
    while wrong := _wrong(action):
        if time.monotonic() > end:
            raise VerificationFailed(
                "the kernel did not bind as asked", details=[*wrong, *_kernel_says(action)],
                hint="dmesg tells why a driver refused its device")
        time.sleep(POLL)


def is_marked(marks: Path, bdf: str) -> bool:
    """Whether the device hung since the machine was booted."""
    try:
        return (marks / bdf).read_text().partition("\n")[0] == boot_id()
    except OSError:
        return False


def boot_id() -> str:
    """A number that each boot has for itself (proc(5))."""
    return BOOT_ID.read_text().strip()


def read_driver(directory: str) -> str | None:
    """The driver of a device, "" for none; None when the device is not there."""
    return write_child.driver_of(directory) if os.path.exists(directory) else None


def _wrong(action: ExpectDriver) -> list[str]:
    found = []
    for directory, driver in action.devices:
        bdf = os.path.basename(directory)
        now = read_driver(directory)
        if now == driver or (now is None and action.gone) or is_marked(action.marks, bdf):
            continue
        state = "is not there any more" if now is None else f"has {f'the driver {now}' if now else 'no driver'}"
        found.append(f"{bdf} {state}, not {driver or 'none'}")
    return found


def _collect(running: dict[str, Attempt], end: float) -> list[Failure]:
    """Take what has ended out of `running`, until nothing runs or the time is up; what failed."""
    failures = []
    while running and (left := end - time.monotonic()) > 0:
        for one in write_child.readable(list(running.values()), left):
            failure = one.result()
            failures += [failure] if failure else []
            one.close()
            del running[_device(one.writes[0])]
    return failures


def _mark(action: WriteSysfs, bdf: str, lines: list[str]) -> None:
    files.write(action.marks / bdf, "\n".join([boot_id(), *lines]) + "\n")


def _failed(action: WriteSysfs, hung: dict[str, list[str]], failures: list[Failure]) -> ProgramFailed:
    details = []
    for bdf, lines in hung.items():
        details += [f"{bdf}: the kernel did not answer within {action.deadline:.0f} s and the writing process cannot "
                    "be killed", *(f"  {line}" for line in lines)]
    names = [os.strerror(failure.number) for failure in failures]
    details += [f"{_device(failure.write)}: echo {failure.write.text} > {failure.write.path}: {name}"
                for failure, name in zip(failures, names, strict=True)]
    if hung:
        return ProgramFailed(f"{', '.join(hung)}: hangs in the kernel and is left alone from now on", details=details,
                             hint="only a reboot is known to free such a device; save the lines above for a report")
    known = [HINTS[name] for failure in failures if (name := errno.errorcode.get(failure.number, "")) in HINTS]
    return ProgramFailed("a device did not take what was written", details=details, hint=known[0] if known else "")


def _device(one: Write) -> str:
    """The address that a write is about."""
    found = BDF.search(one.text) or BDF.search(one.path)
    return found[0] if found else one.path


def _kernel_says(action: ExpectDriver) -> list[str]:
    """The kernel log's last lines about the devices."""
    try:
        result = processes.run(("dmesg",), deadline=5.0)
    except VmtoolError:
        return []
    names = [os.path.basename(directory) for directory, _ in action.devices]
    return [line for line in result.out.splitlines() if any(name in line for name in names)][-6:]
