"""The processes that write an instance's log."""

from __future__ import annotations

import contextlib
from pathlib import Path


def writers(directory: Path) -> list[int]:
    """Of the instance in that directory; the one that writes is the last, and the child of the other."""
    found: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if f"{directory}/./log/guest.log".encode() in (path / "cmdline").read_bytes():
                found[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    return sorted(found, key=lambda pid: found[pid] in found)
