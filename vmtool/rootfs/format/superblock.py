"""The superblock of ext4, as far as an image's owner must know it (Linux, Documentation/filesystems/ext4/super.rst)."""

from __future__ import annotations

import struct
import uuid

from vmtool.frozen import dataclass

PLACE, SIZE = 1024, 1024
MAGIC = 0xEF53
_INCOMPAT_64BIT = 0x80
_INCOMPAT_RECOVER, _INCOMPAT_ENCRYPT = 0x4, 0x10000
_VALID = 1
_RESIZE_INODE, _BIGALLOC = 0x10, 0x200
# With them the metadata is elsewhere or have more to them: sparse_super2, orphan_file (which resize2fs writes to);
# meta_bg, a journal device, MMP; bigalloc.
_ODD_COMPAT, _ODD_INCOMPAT, _ODD_RO = 0x200 | 0x1000, 0x10 | 0x8 | 0x100, _BIGALLOC
_DYNAMIC = 1
_SMALLEST_BLOCK, _SMALLEST_GROUP = 1024, 256
# Beyond that ext4's own limits are passed, so the bytes are no file system.
_LARGEST_BLOCK_SHIFT = 6


@dataclass(frozen=True)
class Superblock:
    """Its fields.

    Args:
        size: of the whole file system in bytes.
        free: bytes of free blocks.
        clean: it was unmounted, and no journal waits to be replayed.
        encrypted: files in it may be encrypted by the kernel (fscrypt).
        clustered: its blocks are allocated in clusters (bigalloc), which resize2fs does not grow.
        largest: bytes to which it can grow with every block staying where it is; `size` or less when it cannot, 0 when
            that cannot be known from here: its features are others, or its numbers make no sense.
    """

    block_size: int
    size: int
    free: int
    uuid: str
    label: str
    clean: bool
    encrypted: bool
    clustered: bool
    largest: int = 0


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
    block_size = _SMALLEST_BLOCK << shift
    label = raw[0x78:0x88].split(b"\0")[0].decode(errors="replace")
    return Superblock(block_size, blocks * block_size, min(free, blocks) * block_size,
                      str(uuid.UUID(bytes=raw[0x68:0x78])), label,
                      bool(state & _VALID) and not incompat & _INCOMPAT_RECOVER, bool(incompat & _INCOMPAT_ENCRYPT),
                      bool(struct.unpack_from("<I", raw, 0x64)[0] & _BIGALLOC),
                      _largest(raw, blocks, block_size))


def _largest(raw: bytes, blocks: int, block_size: int) -> int:
    """See `Superblock.largest`: as long as the descriptors of all groups fit into the blocks that they have and those
    that are reserved for them, resize2fs moves nothing (e2fsprogs, resize2fs.c, blocks_to_move())."""
    compat, incompat, ro_compat = struct.unpack_from("<III", raw, 0x5C)
    first, per_group = (struct.unpack_from("<I", raw, place)[0] for place in (0x14, 0x20))
    reserved, = struct.unpack_from("<H", raw, 0xCE)
    size: int = struct.unpack_from("<H", raw, 0xFE)[0] if incompat & _INCOMPAT_64BIT else 32
    if compat & _ODD_COMPAT or incompat & _ODD_INCOMPAT or ro_compat & _ODD_RO or not _makes_sense(
            raw, blocks, block_size, size):
        return 0
    per_block = block_size // size
    groups = -(-(blocks - first) // per_group)
    described = -(-groups // per_block)
    room = described + (reserved if compat & _RESIZE_INODE else 0)
    # They all lie in the first group.
    return (room * per_block * per_group + first) * block_size if 1 + described + reserved <= per_group else 0


def _makes_sense(raw: bytes, blocks: int, block_size: int, descriptor: int) -> bool:
    """The bounds are mke2fs's and the kernel's (fs/ext4/super.c, __ext4_fill_super())."""
    first, per_group, revision = (struct.unpack_from("<I", raw, place)[0] for place in (0x14, 0x20, 0x4C))
    inode, reserved = (struct.unpack_from("<H", raw, place)[0] for place in (0x58, 0xCE))
    return (revision == _DYNAMIC and first == (block_size == _SMALLEST_BLOCK) and first < blocks
            and _SMALLEST_GROUP <= per_group <= 8 * block_size and per_group % 8 == 0 and reserved <= block_size // 4
            and _is_power(inode, 128, block_size) and _is_power(descriptor, 32, block_size))


def _is_power(number: int, least: int, most: int) -> bool:
    """Whether it is a power of two between those."""
    return least <= number <= most and not number & (number - 1)
