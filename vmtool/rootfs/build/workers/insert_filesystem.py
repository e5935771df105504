"""A file system into an image, where only zeros are: a worker."""

from __future__ import annotations

import os
from pathlib import Path

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.format.sparse import copy_sparse


@dataclass(frozen=True)
class Order:
    """The file with the file system, the image, and the place of its first byte there; `room` is how many bytes it may
    have at most."""

    file: Path
    image: Path
    start: int
    room: int | None = None


def run(order: Order, host: Host) -> None:
    """Do it.

    Raises:
        Refused: it is too large.
    """
    size = order.file.stat().st_size
    if order.room is not None and size > order.room:
        raise Refused(f"the file system has {size} bytes, and the image has room for {order.room}",
                      hint="raise `size` in the recipe")
    source, target = os.open(order.file, os.O_RDONLY), os.open(order.image, os.O_WRONLY)
    try:
        copy_sparse(source, 0, size, target, order.start)
    finally:
        os.close(source)
        os.close(target)
