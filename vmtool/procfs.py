"""What the kernel's files of processes and mounts say (proc(5)), as their texts give it."""

from __future__ import annotations

import re

# A blank, tab, line break or backslash of a path.
ESCAPED = re.compile(r"\\([0-7]{3})")


def state_of(stat: str) -> str:
    """The state of a process or thread whose `stat` this is, such as R; empty of one that is not there."""
    return next(iter(_fields(stat)), "")


def start_of(stat: str) -> str | None:
    """When the process began whose /proc/PID/stat this is, in clock ticks since boot; None when it has ended.

    A leader that exits becomes a zombie (Z) at once, but its process lives on, with its memory and its open files, as
    long as another thread does (field 20, num_threads, counts both).
    """
    fields = _fields(stat)
    ended = len(fields) < 20 or fields[0] == "X" or (fields[0] == "Z" and int(fields[17]) <= 1)
    return None if ended else fields[19]


def mount_points(mountinfo: str) -> list[str]:
    """Where something is mounted: the fifth field, in which a blank is written as \\040."""
    rows = (line.split(" ") for line in mountinfo.split("\n"))
    return [ESCAPED.sub(lambda code: chr(int(code[1], 8)), row[4]) for row in rows if len(row) > 4]


def _fields(stat: str) -> list[str]:
    """The third field, the state, and those that follow: what stands before is the program's name and may hold
    anything."""
    return stat.rpartition(")")[2].split()
