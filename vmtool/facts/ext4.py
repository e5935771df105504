"""The superblock of ext4, as far as an image's owner must know it (Linux, Documentation/filesystems/ext4/super.rst)."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

PLACE, SIZE = 1024, 1024
MAGIC = 0xEF53
_INCOMPAT_64BIT = 0x80
_INCOMPAT_RECOVER, _INCOMPAT_ENCRYPT = 0x4, 0x10000
_VALID = 1
# Beyond that ext4's own limits are passed, so the bytes are no file system.
_LARGEST_BLOCK_SHIFT = 6


@dataclass(frozen=True)
class Superblock:
    """What stands in it.

    Args:
        size: of the whole file system in bytes.
        free: bytes of free blocks.
        clean: it was unmounted, and no journal waits to be replayed.
        encrypted: files in it may be encrypted by the kernel (fscrypt).
    """

    block_size: int
    size: int
    free: int
    uuid: str
    label: str
    clean: bool
    encrypted: bool


def parse_superblock(data: bytes) -> Superblock | None:
    """The superblock in `data`, which starts where the file system starts; None when there is none that makes sense."""
    raw = data[PLACE:PLACE + SIZE]
    if len(raw) < SIZE or struct.unpack_from("<H", raw, 0x38)[0] != MAGIC:
        return None
    blocks, _reserved, free = struct.unpack_from("<III", raw, 0x4)
    shift, = struct.unpack_from("<I", raw, 0x18)
    state, = struct.unpack_from("<H", raw, 0x3A)
    incompat, = struct.unpack_from("<I", raw, 0x60)
    if shift > _LARGEST_BLOCK_SHIFT or blocks == 0:
        return None
    if incompat & _INCOMPAT_64BIT:
        blocks |= struct.unpack_from("<I", raw, 0x150)[0] << 32
        free |= struct.unpack_from("<I", raw, 0x158)[0] << 32
    block_size = 1024 << shift
    label = raw[0x78:0x88].split(b"\0")[0].decode(errors="replace")
    return Superblock(block_size, blocks * block_size, min(free, blocks) * block_size,
                      str(uuid.UUID(bytes=raw[0x68:0x78])), label,
                      bool(state & _VALID) and not incompat & _INCOMPAT_RECOVER, bool(incompat & _INCOMPAT_ENCRYPT))
