"""Regular files, read by their descriptors into memory that is overwritten."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

from vmtool.serving.cryptotensors.errors import Untrusted

# ext4 makes this directory at the top of each of its file systems; a model's disk has it too.
OF_EXT4 = "lost+found"


def names_in(directory: Path) -> list[str]:
    """What is in a directory, but for what is ext4's own.

    Raises:
        OSError: it cannot be listed.
    """
    return [name for name in sorted(os.listdir(directory)) if name != OF_EXT4 or not stat.S_ISDIR(
        os.lstat(directory / name).st_mode)]


def open_regular(path: Path) -> tuple[int, int]:
    """(descriptor, size in bytes) of a regular file that is no link; a pipe in its place makes nobody wait.

    Raises:
        Untrusted: it is something else, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Untrusted(f"{path}: {(error.strerror or 'cannot be opened').lower()}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Untrusted(f"{path}: not a regular file")
    return descriptor, status.st_size


def read_exactly(descriptor: int, buffer: memoryview, offset: int) -> None:
    """Fill the buffer from the file.

    Raises:
        Untrusted: the file ends before.
    """
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if not count:
            raise Untrusted("the file ends before its header says")
        done += count


def wipe(buffer: memoryview | bytearray) -> None:
    """Overwrite it in place; what Python copied before is not reached."""
    if len(buffer):
        ctypes.memset((ctypes.c_char * len(buffer)).from_buffer(buffer), 0, len(buffer))
