"""Logs that others append to for as long as they live, kept at a bounded size.

The middle of one that has grown is given back to the file system (fallocate(2), FALLOC_FL_PUNCH_HOLE): no writer
notices, no line is lost at either end, and offsets stay what they are, for who follows it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from vmtool.errors import Refused
from vmtool.host.safe_open import open_regular

# What a launch said first, and what was said last.
HEAD, TAIL = 4 << 20, 16 << 20
MOST = HEAD + 2 * TAIL
KEEP_SIZE, PUNCH_HOLE = 1, 2
BLOCK = 512  # of st_blocks


def bound(path: Path, before: Callable[[], None] = lambda: None) -> bool:
    """Free the middle of a log that takes more than `MOST` bytes; whether there was something to free.

    Args:
        before: called before anything is lost.
    """
    with contextlib.suppress(OSError, Refused):
        if os.stat(path, follow_symlinks=False).st_blocks * BLOCK <= MOST:
            return False
        before()
        descriptor = open_regular(path, os.O_WRONLY)
        try:
            _free(descriptor, HEAD, os.fstat(descriptor).st_size - TAIL)
        finally:
            os.close(descriptor)
        return True
    return False


def _free(descriptor: int, start: int, end: int) -> None:
    import ctypes  # most looks at a log find nothing to do

    end -= end % 4096
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if end <= start or not libc.fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, start, end - start):
        return
    # Whatever else keeps it from that may be over at the next look.
    if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.ENOSYS):
        # A file system without holes: whoever appends goes on after what was said first.
        os.ftruncate(descriptor, start)
