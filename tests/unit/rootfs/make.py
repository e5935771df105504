"""Crafted image files: only the bytes that tell what they are."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from vmtool.rootfs.format.image_file import MIB
from vmtool.rootfs.format.layout import Geometry, fit, headers
from vmtool.rootfs.metadata.manifest import Manifest, VerityPart

FIELDS = {"first": (0x14, "<I"), "per_group": (0x20, "<I"), "revision": (0x4C, "<I"), "inode": (0x58, "<H"),
          "descriptor": (0xFE, "<H"), "ro_compat": (0x64, "<I")}
LUKS = b"LUKS\xba\xbe\x00\x02"
EROFS = bytes(1024) + b"\xe2\xe1\xf5\xe0"
MANIFEST = Manifest(name="x", recipe="a" * 64, architecture="amd64", layout="kata-dax", filesystem="ext4", size=1,
                    content="b" * 64, verity=VerityPart(root_hash="c" * 64, salt="aabb", data_blocks=1))
SALT = "766d746f6f6c"


def superblock(size: int, *, incompat: int = 0x80, state: int = 1, shift: int = 2, compat: int = 0x10,
               reserved: int = 63, **others: int) -> bytes:
    """The first 2 KiB of an ext4 of `size` bytes with 4 KiB blocks, half of them free, and room to grow to 512 GiB.

    `others` are further fields by their names in `FIELDS`.
    """
    blocks = size >> (10 + shift)
    data = bytearray(2048)
    struct.pack_into("<III", data, 1024 + 0x4, blocks & 0xFFFFFFFF, 0, blocks // 2)
    struct.pack_into("<I", data, 1024 + 0x18, shift)
    struct.pack_into("<HH", data, 1024 + 0x38, 0xEF53, state)
    struct.pack_into("<II", data, 1024 + 0x5C, compat, incompat)
    struct.pack_into("<I", data, 1024 + 0x20, 32768)
    struct.pack_into("<I", data, 1024 + 0x4C, 1)
    struct.pack_into("<H", data, 1024 + 0x58, 256)
    struct.pack_into("<H", data, 1024 + 0xCE, reserved)
    struct.pack_into("<H", data, 1024 + 0xFE, 64)
    struct.pack_into("<I", data, 1024 + 0x150, blocks >> 32)
    for name, value in others.items():
        place, kind = FIELDS[name]
        struct.pack_into(kind, data, 1024 + place, value)
    return bytes(data)


def image(path: Path, geometry: Geometry, filesystem: bytes | None = None, *, size: int | None = None) -> Path:
    """A sparse image of that geometry, with an ext4 or what is given in the place of its root file system."""
    with path.open("wb") as file:
        for at, data in headers(geometry).items():
            file.seek(at)
            file.write(data)
        file.seek(geometry.start)
        file.write(superblock(geometry.size) if filesystem is None else filesystem)
        file.truncate(geometry.total if size is None else size)
    return path


def kata_dax(path: Path, *, verity: bool = False, size: int = 256 * MIB) -> Path:
    """Kata's layout with the DAX header."""
    return image(path, fit("kata-dax", size, verity=verity))


def manifest(**changes: Any) -> Manifest:
    value = {"name": "m", "recipe": "0" * 64, "architecture": "amd64", "layout": "kata-dax", "filesystem": "ext4",
             "size": 256 * MIB, "content": "1" * 64, "verity": {"root_hash": "2" * 64, "salt": SALT, "data_blocks": 99}}
    return Manifest.model_validate(value | changes)
