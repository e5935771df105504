"""A piece of an image as a file of its own, holes as holes: a worker."""

from __future__ import annotations

import os
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.format.sparse import copy_sparse


@dataclass(frozen=True)
class Order:
    """Which bytes of the image, and the new file."""

    image: Path
    start: int
    size: int
    out: Path


def run(order: Order, host: Host) -> None:
    """Do it."""
    source = os.open(order.image, os.O_RDONLY)
    target = os.open(order.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(target, order.size)
        copy_sparse(source, order.start, order.size, target, 0)
    finally:
        os.close(source)
        os.close(target)
