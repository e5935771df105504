"""Who is at work: advisory locks that the kernel releases when their holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import NotReady


@contextlib.contextmanager
def held(path: Path, doing: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file; it names its holder, so that another vmtool can say whom it met.

    Args:
        doing: what the holder does, such as "vmtool run quickstart".
        wait: seconds to wait for another holder.

    Raises:
        NotReady: another process holds it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + wait
        while not _try(descriptor):
            if time.monotonic() >= end:
                holder = os.read(descriptor, 400).decode(errors="replace").strip()
                raise NotReady(f"{path.stem} is busy: {holder or 'another vmtool is at work'}",
                               hint="wait for it to end, then type the command again")
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{doing} (pid {os.getpid()})\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
