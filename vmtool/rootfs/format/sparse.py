"""Where a sparse file has bytes of its own (lseek(2), SEEK_DATA): what lies in between reads as zeros."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from vmtool.errors import VmtoolError


def next_data(descriptor: int, at: int, end: int) -> int:
    """Where, from `at` on, the next bytes lie that are no hole; `end` when there are none before it."""
    try:
        return min(os.lseek(descriptor, at, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno != errno.ENXIO:                 # a hole to the end; a disk that cannot be read is none
            raise
        return end


def written(descriptor: int, end: int, at: int = 0) -> Iterator[tuple[int, int]]:
    """(start, end) in bytes of what is no hole between `at` and `end`."""
    while (at := next_data(descriptor, at, end)) < end:
        hole = min(os.lseek(descriptor, at, os.SEEK_HOLE), end)
        yield at, hole
        at = hole


def copy_sparse(source: int, start: int, size: int, target: int, to: int) -> None:
    """Copy a piece between two open files; holes stay holes, so the target must be new or zero there."""
    for at, hole in written(source, start + size, start):
        length, done = hole - at, 0
        while done < length:
            copied = os.copy_file_range(source, target, length - done, at + done, to + at - start + done)
            if not copied:
                raise VmtoolError(f"the file ends at byte {at + done}, {start + size} were expected")
            done += copied
