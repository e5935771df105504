"""Files in a directory where others may write too: a link or a pipe that somebody planted there is never followed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from vmtool.foreign import not_regular
from vmtool.host import files


def open_regular(path: Path, flags: int) -> int:
    """Open a file that is there.

    Raises:
        Refused: it is no regular file.
        BlockingIOError: somebody has a lease on it.
    """
    try:
        # O_NONBLOCK: neither a pipe nor a lease makes this wait.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_regular(path)
    return descriptor


def make(path: Path) -> int:
    """Open a new, private file to read and write, in the place of whatever has the name."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def rewrite(path: Path, text: str) -> None:
    """Write atomically; mode and owner stay those of the file that was there."""
    if not path.exists():
        files.write(path, text, mode=0o644)
        return
    was, root = path.stat(), os.geteuid() == 0
    files.write(path, text, mode=stat.S_IMODE(was.st_mode), uid=was.st_uid if root else None)
    if root:
        os.chown(path, -1, was.st_gid)
