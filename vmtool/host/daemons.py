"""Programs that outlive vmtool, found again by pid and start time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.host import bounded_log, files, processes


def living(pidfile: Path, *, certain: bool = False) -> int | None:
    """The pid in the file when that very process still lives.

    A file with no start time (other programs write such) is believed when the process is older than the file.

    Args:
        certain: such a file is not believed.
    """
    try:
        pid, _, started = read_regular(pidfile, 100).decode("ascii").strip().partition(" ")
        now = processes.start_time(int(pid))
        if now is None or (started and now != started):
            return None
        if not started and (certain or processes.started_at(now) > pidfile.stat().st_mtime + 1):
            return None
    except (OSError, ValueError, Refused):
        return None
    return int(pid)


def write_own(pidfile: Path) -> None:
    """Name this process in it."""
    files.write(pidfile, f"{os.getpid()} {processes.start_time(os.getpid())}\n")


def is_marked(mark: Path) -> bool:
    """Whether a mark counts: an empty one does for good, one that names a process as long as that lives."""
    if not mark.exists():
        return False
    if living(mark, certain=True) is not None:
        return True
    # Looked at last: one that names a process may become final meanwhile.
    try:
        return not mark.stat().st_size
    except OSError:
        return False


def start(argv: Sequence[str], pidfile: Path, log: Path) -> None:
    """Start a program in a session of its own."""
    bounded_log.bound(log)
    with open(log, "ab") as output:
        # In the child, before exec: a vmtool killed right now still leaves a pid file that `recover` can follow.
        processes.start(argv, subprocess.DEVNULL, output, output, before=partial(write_own, pidfile))
