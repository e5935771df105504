"""Writing to PCI devices without ever hanging with them, and reading back which driver they have."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vmtool.errors import ProgramFailed, VmtoolError
from vmtool.gpu.pci import BDF
from vmtool.machine import DeviceWrite, Host, Pairs, Reader, RunningWrites, WriteFailure

BOOT_ID = "/proc/sys/kernel/random/boot_id"
POLL = 0.02
HINTS = {
    "EBUSY": "something still uses the device: vmtool gpu status BDF names who",
    "EINVAL": "the driver refused the device, or a virtual machine that used it has only just ended",
    "ENODEV": "the device went away or no driver takes it",
    "ENOENT": "the device went away",
    "EINTR": "the write did not end and was broken off",
}


def write(host: Host, writes: Iterable[DeviceWrite], marks: Path, deadline: float, *, may_fail: bool = False) -> None:
    """Do all writes, each device's in a process of its own, all devices at the same time.

    Args:
        marks: directory with a file for each device that hung in this boot: those are left alone.
        deadline: seconds for all of it.
        may_fail: a write that the kernel refuses is no failure.

    Raises:
        ProgramFailed: a write failed, or did not end; then the device is marked and its process is left behind.
    """
    running = {_device(each[0]): host.start_writes(each) for each in by_device(host, writes, marks)}
    hung: dict[str, list[str]] = {}
    failures: list[WriteFailure] = []
    try:
        failures = _collect(host, running, host.now() + deadline)
        for bdf, one in running.items():
            hung[bdf] = one.stuck_at()
            if one.kill():
                failures.append(WriteFailure(one.writes[-1], errno.EINTR))
                del hung[bdf]
            else:
                host.write(_mark(marks, bdf), "\n".join([boot_id(host), *hung[bdf]]) + "\n")
    except BaseException:
        # Ctrl-C: what can be killed is; the rest is reported by the undo that follows.
        for one in running.values():
            one.kill()
        raise
    finally:
        for one in running.values():
            one.close()
    if may_fail:
        failures = []
    if hung or failures:
        raise _failed(deadline, hung, failures)


def by_device(reader: Reader, writes: Iterable[DeviceWrite], marks: Path) -> list[list[DeviceWrite]]:
    """The writes of each device, without those that hung in this boot."""
    found: dict[str, list[DeviceWrite]] = {}
    for one in writes:
        found.setdefault(_device(one), []).append(one)
    return [each for bdf, each in found.items() if not is_marked(reader, marks, bdf)]


def is_marked(reader: Reader, marks: Path, bdf: str) -> bool:
    """Whether the device hung since the machine was booted."""
    mark = reader.text(str(_mark(marks, bdf)))
    return mark is not None and mark.partition("\n")[0] == boot_id(reader)


def _mark(marks: Path, device: str) -> Path:
    """The file for a device; of what is no PCI device the path is its name."""
    return marks / device.strip("/").replace("/", "!")


def boot_id(reader: Reader) -> str:
    """A number that each boot has for itself (proc(5))."""
    return (reader.text(BOOT_ID) or "").strip()


def read_driver(reader: Reader, directory: str) -> str | None:
    """The driver of a device, "" for none; None when the device is not there."""
    link = reader.link(f"{directory}/driver")
    return os.path.basename(link) if link else "" if reader.exists(directory) else None


def wrong_drivers(reader: Reader, devices: Pairs, marks: Path, *, absent_is_right: bool) -> list[str]:
    """A line for each device (directory, driver or "") that has another driver than it should."""
    found = []
    for directory, driver in devices:
        bdf = os.path.basename(directory)
        now = read_driver(reader, directory)
        if now == driver or (now is None and absent_is_right) or is_marked(reader, marks, bdf):
            continue
        state = "is not there any more" if now is None else f"has {f'the driver {now}' if now else 'no driver'}"
        found.append(f"{bdf} {state}, not {driver or 'none'}")
    return found


def kernel_lines(host: Host, directories: Sequence[str]) -> list[str]:
    """The kernel log's last lines about devices."""
    try:
        result = host.execute(("dmesg",), deadline=5.0)
    except VmtoolError:
        return []
    names = [os.path.basename(directory) for directory in directories]
    return [line for line in result.out.splitlines() if any(name in line for name in names)][-6:]


def _collect(host: Host, running: dict[str, RunningWrites], end: float) -> list[WriteFailure]:
    """Take what has ended out of `running`, until nothing runs or the time is up; what failed.

    What has ended is taken also after that: on a busy machine it is this process that comes late.
    """
    failures, left = [], 1.0
    while running and left > 0:
        left = end - host.now()
        for one in host.ended(list(running.values()), left):
            failure = one.result()
            failures += [failure] if failure else []
            one.close()
            del running[_device(one.writes[0])]
    return failures


def _failed(deadline: float, hung: dict[str, list[str]], failures: list[WriteFailure]) -> ProgramFailed:
    details = []
    for bdf, lines in hung.items():
        details += [f"{bdf}: the kernel did not answer within {deadline:.0f} s and the writing process cannot "
                    "be killed", *(f"  {line}" for line in lines)]
    names = [os.strerror(failure.number) for failure in failures]
    details += [f"{_device(failure.write)}: echo {failure.write.text} > {failure.write.path}: {name}"
                for failure, name in zip(failures, names, strict=True)]
    if hung:
        return ProgramFailed(f"{', '.join(hung)}: hangs in the kernel and is left alone from now on", details=details,
                             hint="only a reboot is known to free such a device; save the lines above for a report")
    known = [HINTS[name] for failure in failures if (name := errno.errorcode.get(failure.number, "")) in HINTS]
    return ProgramFailed("a device did not take what was written", details=details, hint=known[0] if known else "")


def _device(one: DeviceWrite) -> str:
    """The address that a write is about."""
    found = BDF.search(one.text) or BDF.search(one.path)
    return found[0] if found else one.path
