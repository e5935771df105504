"""What the kernel says of a process: whose it is, and whose child. Its name and arguments are its own words."""

from __future__ import annotations

import re

from vmtool.machine import Reader


def user_of(reader: Reader, pid: int) -> int | None:
    """The real user of a process (proc(5)); None when it is gone."""
    found = re.search(r"^Uid:\t(\d+)\t", reader.text(f"/proc/{pid}/status") or "", re.MULTILINE)
    return int(found[1]) if found else None


def lineage(reader: Reader, pid: int) -> list[int]:
    """A process and its ancestors."""
    found = [pid]
    while found[-1] > 1 and len(found) < 64:
        parent = re.search(r"^PPid:\t(\d+)$", reader.text(f"/proc/{found[-1]}/status") or "", re.MULTILINE)
        if not parent:
            break
        found.append(int(parent[1]))
    return found
