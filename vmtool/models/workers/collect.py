"""What a container left as a model, taken over: a worker.

The container's image is foreign, and what it leaves may be links, pipes, or endless. So nothing of it is moved: regular
files of plain names are copied, bounded in number and size, into a new directory, which then takes its name at once.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmtool.errors import VerificationFailed
from vmtool.frozen import dataclass
from vmtool.host import files
from vmtool.machine import Host

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
MAX_FILES = 64
PIECE = 1 << 20
_FOLLOW_NOTHING = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class Order:
    """The directory that the container wrote, a new one next to the model's place, that place (absent, or an empty
    directory), and how many bytes the model may have."""

    source: Path
    new: Path
    target: Path
    size: int


def run(order: Order, host: Host) -> None:
    """Do it."""
    try:
        with opened(order.source, os.O_DIRECTORY) as source:
            order.new.mkdir(mode=0o700)
            copy_files(source, order.source, order.new, order.size)
    except NotADirectoryError as error:
        raise _odd(order.source, "not a directory") from error
    except OSError as error:
        raise _odd(order.source, (error.strerror or "cannot be read").lower()) from error
    order.new.chmod(0o755)
    order.new.rename(order.target)
    files.sync_directory(order.target.parent)


@contextmanager
def opened(path: Path | str, flags: int, directory: int | None = None) -> Iterator[int]:
    """A descriptor of what has this name itself, whatever it is."""
    descriptor = os.open(path, os.O_RDONLY | flags | _FOLLOW_NOTHING, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy_files(source: int, place: Path, new: Path, size: int) -> None:
    """Copy each file of an open directory.

    Raises:
        VerificationFailed: something else than a bounded number of bounded files is there.
    """
    names, left = sorted(os.listdir(source)), size
    if len(names) > MAX_FILES:
        raise _odd(place, f"more than {MAX_FILES} files")
    for name in names:
        if not NAME.fullmatch(name):
            raise _odd(place, f"a file named {name[:60]!r}")
        with opened(name, 0, source) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _odd(place / name, "not a regular file")
            left -= _copy(descriptor, new / name, left)
        if left < 0:
            raise _odd(place, f"more than {size >> 20} MiB")


def _copy(descriptor: int, target: Path, most: int) -> int:
    """How many bytes there are, up to one more than the most."""
    done = 0
    with target.open("xb") as file:
        while done <= most and (piece := os.read(descriptor, min(PIECE, most + 1 - done))):
            file.write(piece)
            done += len(piece)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    return done


def _odd(path: Path, what: str) -> VerificationFailed:
    return VerificationFailed(f"what the image's trainer left is no model: {path.name}: {what}",
                              hint="the image is not one that vmtool built: vmtool image list")
