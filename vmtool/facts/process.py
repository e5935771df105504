"""What the kernel says of a process: whose it is, and whose child. Its name and arguments are its own words."""

from __future__ import annotations

import re

from vmtool.machine import Reader
from vmtool.procfs import start_of, state_of


def user_of(reader: Reader, pid: int) -> int | None:
    """The real user of a process (proc(5)); None when it is gone."""
    found = re.search(r"^Uid:\t(\d+)\t", reader.text(f"/proc/{pid}/status") or "", re.MULTILINE)
    return int(found[1]) if found else None


def is_nested(reader: Reader, pid: int) -> bool:
    """Whether a process is in a PID namespace below the reader's, such as a container's, where another vmtool may be at
    work: then it has a number in each (proc(5), NSpid)."""
    found = re.search(r"^NSpid:(.*)$", reader.text(f"/proc/{pid}/status") or "", re.MULTILINE)
    return bool(found and len(found[1].split()) > 1)


def lineage(reader: Reader, pid: int) -> list[int]:
    """A process and its ancestors."""
    found = [pid]
    while found[-1] > 1 and len(found) < 64:
        parent = re.search(r"^PPid:\t(\d+)$", reader.text(f"/proc/{found[-1]}/status") or "", re.MULTILINE)
        if not parent:
            break
        found.append(int(parent[1]))
    return found


def has_ended(reader: Reader, pid: int) -> bool:
    """Whether it is one that has ended and that nobody has waited for; of one that is not there nothing is known."""
    stat = reader.text(f"/proc/{pid}/stat")
    return stat is not None and start_of(stat) is None


def shown_at(reader: Reader, pid: int | str) -> str:
    """The directory in which the kernel shows what a process runs, has open and has mapped. A leader that has exited
    shows none of it any more: the process's other threads do."""
    place = f"/proc/{pid}"
    if _state(reader, place) != "Z":
        return place
    threads = (f"{place}/task/{thread}" for thread in reader.names(f"{place}/task"))
    return next((thread for thread in threads if _state(reader, thread) not in ("", "Z", "X")), place)


def _state(reader: Reader, place: str) -> str:
    return state_of(reader.text(f"{place}/stat") or "")
