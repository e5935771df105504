"""Who is at work: advisory locks that the kernel releases when their holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from vmtool.errors import NotReady
from vmtool.host import files


class Lock:
    """A lock file that names its holder, so that another vmtool can say whom it met.

    A context manager; within, it can be let go and taken again.

    Args:
        doing: what the holder does, such as "vmtool run quickstart".
        wait: seconds to wait for another holder.
    """

    def __init__(self, path: Path, doing: str, *, wait: float = 0.5) -> None:
        self.path, self.doing, self.wait = path, doing, wait
        self.descriptor = -1

    def take(self) -> None:
        """Hold it from now on; nothing changes when it is held already.

        Raises:
            NotReady: another process holds it.
        """
        if self.descriptor >= 0:
            return
        files.make_private(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(descriptor)
            with contextlib.suppress(OSError):  # a full disk: it is held all the same, by nobody knows whom
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{self.doing} (pid {os.getpid()})\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor

    def let_go(self) -> None:
        """Hold it no longer."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _acquire(self, descriptor: int) -> None:
        end = time.monotonic() + self.wait
        while not take(descriptor):
            if time.monotonic() >= end:
                holder = os.read(descriptor, 400).decode(errors="replace").strip()
                raise NotReady(f"{self.path.stem} is busy: {holder or 'another vmtool is at work'}",
                               hint="wait for it to end, then type the command again")
            time.sleep(0.1)

    def __enter__(self) -> Lock:
        self.take()
        return self

    def __exit__(self, *error: object) -> None:
        self.let_go()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    try:
        # To read, since the state directory may be read-only; not waiting, whatever it is.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        # Shared, so that two who look do not see each other.
        return not take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(path: Path) -> tuple[str, int] | None:
    """What the process that holds the lock now does, and its pid; None when nobody holds it."""
    if not is_held(path):
        return None
    doing, _, pid = path.read_text(errors="replace")[:400].strip().rpartition(" (pid ")
    return (doing, int(pid[:-1])) if pid[:-1].isdecimal() else ("", 0)


def take(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    """Hold the lock of an open file until it is closed; whether nobody else holds it."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
