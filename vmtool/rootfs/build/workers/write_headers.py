"""What lies around the root file system of an image: labels, the NVDIMM header, dm-verity's hashes: a worker."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.host.files import write_at
from vmtool.machine import Host
from vmtool.rootfs.format.hash_tree import Verity, hash_tree
from vmtool.rootfs.format.layout import Geometry, headers


@dataclass(frozen=True)
class Order:
    """What is written.

    Args:
        salt: of the hashes, in hexadecimal; for a geometry with room for them.
        verity: the file that receives their values.
    """

    image: Path
    geometry: Geometry
    salt: str
    verity: Path


def run(order: Order, host: Host) -> None:
    """Do it."""
    if found := write_headers(order.image, order.geometry, order.salt):
        host.write(order.verity, json.dumps(asdict(found)) + "\n")


def write_headers(image: Path, geometry: Geometry, salt: str) -> Verity | None:
    """Write them; the image gets its whole size."""
    descriptor = os.open(image, os.O_RDWR)
    try:
        os.ftruncate(descriptor, geometry.total)
        for at, data in headers(geometry).items():
            write_at(descriptor, data, at)
        if not geometry.hash_size:
            return None
        root, tree = hash_tree(descriptor, geometry.start, geometry.size, bytes.fromhex(salt))
        write_at(descriptor, tree, geometry.hash_start)
        return Verity(root, salt, geometry.size // 4096)
    finally:
        os.close(descriptor)
