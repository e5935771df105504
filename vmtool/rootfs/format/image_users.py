"""Who uses an image file now: processes that have it open or mapped, and loop devices on it."""

from __future__ import annotations

import re
import time

from vmtool.facts.process import shown_at
from vmtool.machine import Reader

# Seconds for processes to be gone whose command has just ended; and between two looks.
PATIENCE, PAUSE = 1.0, 0.1


def lasting_users(reader: Reader, path: str, *, own: int) -> tuple[str, ...]:
    """As `read_users`, but for those who are about to go."""
    end = time.monotonic() + PATIENCE
    while (found := read_users(reader, path, own=own)) and time.monotonic() < end:
        time.sleep(PAUSE)
    return found


def read_users(reader: Reader, path: str, *, own: int = 0) -> tuple[str, ...]:
    """A line for each user of the file, for a person.

    Only root sees other users' processes. A file system that is mounted from the file is a loop device's.

    Args:
        path: absolute and without symbolic links, as the kernel writes it.
        own: a process that does not count, vmtool itself.
    """
    found = []
    for pid in reader.names("/proc"):
        place = shown_at(reader, pid) if pid.isdecimal() and int(pid) != own else ""
        if place and (_has_open(reader, place, path) or _has_mapped(reader, place, path)):
            found.append(f"{(reader.text(f'/proc/{pid}/comm') or '?').strip()} (pid {pid}) has it open")
    for name in reader.names("/sys/block"):
        backing = reader.text(f"/sys/block/{name}/loop/backing_file") if name.startswith("loop") else None
        if backing and backing.strip().removesuffix(" (deleted)") == path:
            found.append(f"/dev/{name} is attached to it; umount it, then: losetup -d /dev/{name}")
    return tuple(found)


def _has_open(reader: Reader, place: str, path: str) -> bool:
    return any(reader.link(f"{place}/fd/{number}") == path for number in reader.names(f"{place}/fd"))


def _has_mapped(reader: Reader, place: str, path: str) -> bool:
    """QEMU maps an NVDIMM's file, and may close it after (proc(5), /proc/PID/maps: the path is the sixth field)."""
    return bool(re.search(rf" {re.escape(path)}$", reader.text(f"{place}/maps") or "", re.MULTILINE))
