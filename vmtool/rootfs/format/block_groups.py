"""An ext4's own metadata, group by group: what is read and written when it grows without moving a block.

Source: Linux, Documentation/filesystems/ext4/ (super.rst, group_descr.rst, bitmaps.rst). The features that would place
them elsewhere are those of which `Superblock.largest` is 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.rootfs.format.superblock import PLACE, SIZE

_INCOMPAT_64BIT, _SPARSE_SUPER = 0x80, 0x1
_BLOCK_UNINIT = 0x2
# Root, journal, resize inode and the others that have no name; lost+found is the first ordinary one.
_RESERVED_INODES = 11
_RESIZE_INODE, _DOUBLY = 7, 0x28 + 13 * 4
# (place, length) in bytes of the file system -> the bytes.
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Group:
    """Block numbers of a group's bitmaps and of its inode table; without `bitmap` no file has a block in it yet."""

    blocks: int
    inodes: int
    table: int
    bitmap: bool


@dataclass(frozen=True)
class FilesystemMetadata:
    """Where they lie.

    Args:
        first: the block that group 0 starts with.
        count: of all blocks.
        per_group: blocks in a group.
        descriptors: blocks that all group descriptors take behind a superblock, with those reserved for more.
        sparse: not every group has a copy of the superblock.
        inodes: blocks of the table of group 0 that hold the inodes without names.
        pointers: the block with pointers to the reserved blocks; 0 when there is none.
    """

    block_size: int
    first: int
    count: int
    per_group: int
    descriptors: int
    sparse: bool
    inodes: int
    pointers: int
    groups: tuple[Group, ...]

    @property
    def size(self) -> int:
        """Of the file system in bytes."""
        return self.count * self.block_size

    def kept(self) -> Iterator[range]:
        """The blocks that growing reads, and all in use that it may change."""
        yield range(self.first + 1)
        for number, group in enumerate(self.groups):
            if not self.sparse or _has_copy(number):
                start = self.first + number * self.per_group
                yield range(start, min(start + 1 + self.descriptors, self.count))
            yield range(group.blocks, group.blocks + 1)
            yield range(group.inodes, group.inodes + 1)
        yield range(self.groups[0].table, self.groups[0].table + self.inodes)
        yield range(self.pointers, self.pointers + 1)

    def used(self, number: int, read: Read) -> int:
        """The bitmap of a group's blocks in use, the group's first block as the lowest bit."""
        if not self.groups[number].bitmap:
            return 0
        return int.from_bytes(read(self.groups[number].blocks * self.block_size, self.per_group // 8), "little")


def read_metadata(read: Read) -> FilesystemMetadata:
    """Read superblock and group descriptors. The caller has looked at the superblock: `Superblock.largest`.

    Raises:
        Refused: metadata lies outside the file system.
    """
    raw = read(PLACE, SIZE)
    number = {name: struct.unpack_from("<I", raw, place)[0] for name, place in (
        ("count", 0x4), ("first", 0x14), ("shift", 0x18), ("per_group", 0x20), ("inodes_per_group", 0x28),
        ("incompat", 0x60), ("ro_compat", 0x64), ("count_high", 0x150))}
    inode_size, = struct.unpack_from("<H", raw, 0x58)
    reserved, = struct.unpack_from("<H", raw, 0xCE)
    wide = bool(number["incompat"] & _INCOMPAT_64BIT)
    size = struct.unpack_from("<H", raw, 0xFE)[0] if wide else 32
    block_size = 1024 << number["shift"]
    count = number["count"] | (number["count_high"] << 32 if wide else 0)
    many = -(-(count - number["first"]) // number["per_group"])
    blocks = -(-many * size // block_size)
    table = read((number["first"] + 1) * block_size, blocks * block_size)
    groups = tuple(_group(table[at:at + size]) for at in range(0, many * size, size))
    for at, each in enumerate(groups):
        if not (0 < each.blocks < count and 0 < each.inodes < count
                and 0 < each.table <= count - -(-number["inodes_per_group"] * inode_size // block_size)):
            raise Refused(f"the file system is damaged: bitmaps or inodes of group {at} lie behind its end",
                          hint="vmtool rootfs resize --copy lets e2fsck repair a copy")
    resize = read(groups[0].table * block_size + (_RESIZE_INODE - 1) * inode_size, inode_size)
    pointers, = struct.unpack_from("<I", resize, _DOUBLY)
    return FilesystemMetadata(block_size, number["first"], count, number["per_group"], blocks + reserved,
                 bool(number["ro_compat"] & _SPARSE_SUPER), -(-_RESERVED_INODES * inode_size // block_size),
                 pointers if pointers < count else 0, groups)


def _group(raw: bytes) -> Group:
    low = struct.unpack_from("<III", raw)
    high = struct.unpack_from("<III", raw, 0x20) if len(raw) >= 64 else (0, 0, 0)
    blocks, inodes, table = (one | other << 32 for one, other in zip(low, high, strict=True))
    return Group(blocks, inodes, table, not struct.unpack_from("<H", raw, 0x12)[0] & _BLOCK_UNINIT)


def _has_copy(number: int) -> bool:
    """With sparse_super, groups 0, 1 and the powers of 3, 5 and 7."""
    for base in (3, 5, 7):
        power = base
        while power < number:
            power *= base
        if power == number:
            return True
    return number < 2
