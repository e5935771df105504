"""Copying a large file, and swapping two directories, by what the file system does best."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

# ioctl_ficlone(2): the copy shares the blocks until one of the two is written to (xfs, btrfs).
FICLONE = 0x40049409
# renameat2(2)
AT_FDCWD, RENAME_EXCHANGE = -100, 2
_NOT_HERE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS)
_PIECE = 8 << 20


def clone(source: int, target: int) -> bool:
    """Let an empty file share all blocks of another one; False when the file system cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
        return True
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return False


def copy_range(source: int, target: int, start: int, to: int, size: int) -> None:
    """Copy bytes of a file to a place in another one, in the kernel where it can.

    Raises:
        OSError: the source is shorter, the disk full.
    """
    while size:
        try:
            count = os.copy_file_range(source, target, min(size, _PIECE), start, to)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            count = os.pwrite(target, os.pread(source, min(size, _PIECE), start), to)
        if not count:
            raise OSError(errno.ENODATA, "became shorter while it was copied")
        start, to, size = start + count, to + count, size - count


def exchange(first: Path, second: Path) -> None:
    """Let two directories take each other's names, at one moment for whoever looks.

    Raises:
        OSError: the file system cannot, or one of them is in use as a mount point.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(path) for path in (first, second))
    if libc.renameat2(AT_FDCWD, next(names), AT_FDCWD, next(names), RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(first))
