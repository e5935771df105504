"""An ext4 file system as an archive, read without mounting it: a worker.

Owners, modes, times, links, device nodes and extended attributes are kept; debugfs's rdump loses the last three. The
format is Linux's Documentation/filesystems/ext4. untrusted input: every place is checked against the size of
the file system, a directory is entered once, and what is not understood is refused, not left out.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmtool.errors import Refused, shell_word
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.format.superblock import PLACE, SIZE, parse_superblock

ROOT_INODE = 2
LOST = "lost+found"
_EXTENTS, _INLINE, _ENCRYPTED = 0x80000, 0x10000000, 0x800
_EXTENT_MAGIC, _XATTR_MAGIC = 0xF30A, 0xEA020000
# meta_bg (descriptors elsewhere), compression, journal device, inline data, encryption: not read here.
_FOREIGN = 0x10 | 0x1 | 0x8 | 0x8000 | 0x10000
_64BIT = 0x80
_PREFIXES = {1: "user.", 4: "trusted.", 6: "security.", 7: "system."}
_DEPTH, _NAMES, _LARGEST_LINK = 64, 4 << 20, 4096
_TYPES = {stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
          stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE, stat.S_IFIFO: tarfile.FIFOTYPE}


@dataclass(frozen=True)
class Order:
    """The image, the byte of it where the file system begins, the archive, and the paths that are taken, with all below
    them; none for all."""

    image: Path
    start: int
    out: Path
    paths: tuple[str, ...] = ()


def run(order: Order, host: Host) -> None:
    """Write the archive.

    Raises:
        Refused: something in the file system is broken, or is not read here.
    """
    convert(Ext4(order.image, order.start), order.out, [path.strip("/") for path in order.paths])


@dataclass(frozen=True)
class Inode:
    """An inode as it lies on disk."""

    number: int
    raw: bytes

    def word(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.raw, at)[0])

    def half(self, at: int) -> int:
        return int(struct.unpack_from("<H", self.raw, at)[0])

    @property
    def mode(self) -> int:
        return self.half(0)

    @property
    def size(self) -> int:
        return self.word(0x4) | self.word(0x6C) << 32

    @property
    def owner(self) -> tuple[int, int]:
        return self.half(0x2) | self.half(0x78) << 16, self.half(0x18) | self.half(0x7A) << 16

    @property
    def block(self) -> bytes:
        """The sixty bytes that hold extents, a short link's target, or a device's numbers."""
        return self.raw[0x28:0x64]


class Ext4:
    """An ext4 file system in a file, to be read."""

    def __init__(self, image: Path, start: int) -> None:
        self.file = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        self.image, self.start = image, start
        head = os.pread(self.file, PLACE + SIZE, start)
        found = parse_superblock(head)
        if not found:
            raise Refused(f"{image}: no ext4 at byte {start}")
        if not found.clean:
            raise self.broken("the file system was not unmounted")
        self.block_size, self.size = found.block_size, found.size
        self.maps = found.size // found.block_size
        raw = head[PLACE:]
        self.per_group, = struct.unpack_from("<I", raw, 0x28)
        self.inodes, = struct.unpack_from("<I", raw, 0x0)
        self.inode_size, = struct.unpack_from("<H", raw, 0x58)
        incompat, = struct.unpack_from("<I", raw, 0x60)
        self.descriptor_size = max(struct.unpack_from("<H", raw, 0xFE)[0], 32) if incompat & _64BIT else 32
        if incompat & _FOREIGN or not self.per_group or not 128 <= self.inode_size <= self.block_size:
            raise Refused(f"{image}: an ext4 with features that are not read here (incompat {incompat:#x})")

    def close(self) -> None:
        os.close(self.file)

    def broken(self, what: str) -> Refused:
        """The error for what e2fsck may repair."""
        place = shell_word(f"{self.image}?offset={self.start}" if self.start else self.image)
        return Refused(f"{self.image}: {what}",
                       hint=f"e2fsck -fn {place} shows what is wrong, e2fsck -f {place} repairs it")

    def read(self, at: int, length: int) -> bytes:
        """Bytes of the file system.

        Raises:
            Refused: they lie outside of it.
        """
        if at < 0 or at + length > self.size:
            raise self.broken(f"a place outside of the file system ({at})")
        data = os.pread(self.file, length, self.start + at)
        if len(data) != length:
            raise Refused("the file ends before the file system does")
        return data

    def map_block(self, number: int) -> bytes:
        """A block that shows where others are. Each is asked for once, so there are no more of them than blocks.

        Raises:
            Refused: they lead round and round.
        """
        self.maps -= 1
        if self.maps < 0:
            raise self.broken("the maps of files are larger than the file system")
        return self.read(number * self.block_size, self.block_size)

    def inode(self, number: int) -> Inode:
        """The inode of a number, which counts from one."""
        if not 0 < number <= self.inodes:
            raise Refused(f"inode {number} does not exist")
        group, index = divmod(number - 1, self.per_group)
        table = (1024 // self.block_size + 1) * self.block_size
        descriptor = self.read(table + group * self.descriptor_size, self.descriptor_size)
        place, = struct.unpack_from("<I", descriptor, 0x8)
        if self.descriptor_size >= 64:
            place |= struct.unpack_from("<I", descriptor, 0x28)[0] << 32
        raw = self.read(place * self.block_size + index * self.inode_size, self.inode_size)
        found = Inode(number, raw)
        if found.word(0x20) & (_INLINE | _ENCRYPTED):
            raise Refused(f"inode {number} is encrypted, or holds its data itself: not read here")
        return found

    def pieces(self, inode: Inode) -> Iterator[tuple[int, int, int]]:
        """(place in the file, place in the file system or 0, length) in bytes, in order; the rest are holes."""
        if not inode.word(0x20) & _EXTENTS:
            yield from self._mapped(inode)
            return
        yield from self._extents(inode.block, _DEPTH)

    def _extents(self, node: bytes, depth: int) -> Iterator[tuple[int, int, int]]:
        magic, count, _limit, level = struct.unpack_from("<HHHH", node)
        if magic != _EXTENT_MAGIC or level >= depth or 12 + 12 * count > len(node):
            raise self.broken("a broken tree of extents")
        for at in range(12, 12 + 12 * count, 12):
            if level:
                low, high = struct.unpack_from("<IH", node, at + 4)
                below = self.map_block(low | high << 32)
                yield from self._extents(below, level)
                continue
            logical, length, high, low = struct.unpack_from("<IHHI", node, at)
            # Above 2^15 it is allocated and was never written: zeros.
            if length <= 1 << 15:
                yield (logical * self.block_size, (low | high << 32) * self.block_size, length * self.block_size)

    def _mapped(self, inode: Inode) -> Iterator[tuple[int, int, int]]:
        """The block map of ext2 and ext3, which debugfs and old tools still write."""
        at, end = 0, -(-inode.size // self.block_size)
        per = self.block_size // 4
        for slot, pointer in enumerate(struct.unpack("<15I", inode.block)):
            level = max(0, slot - 11)
            for number in self._pointers(pointer, level, min(per ** level, end - at)):
                if number:
                    yield at * self.block_size, number * self.block_size, self.block_size
                at += 1
            if at >= end:
                return

    def _pointers(self, pointer: int, level: int, count: int) -> Iterator[int]:
        if count <= 0:
            return
        if not level or not pointer:
            yield from (pointer for _ in range(count))
            return
        per, below = self.block_size // 4, (self.block_size // 4) ** (level - 1)
        for each in struct.unpack(f"<{per}I", self.map_block(pointer)):
            yield from self._pointers(each, level - 1, min(below, count))
            count -= below
            if count <= 0:
                return

    def content(self, inode: Inode) -> Content:
        return Content(self, inode)

    def entries(self, inode: Inode) -> list[tuple[str, int]]:
        """(name, inode) of a directory, sorted; an index in it looks like empty entries (dir_index)."""
        if inode.size > _NAMES:
            raise Refused(f"inode {inode.number}: a directory of {inode.size} bytes")
        data, at, found = self.content(inode).read(), 0, []
        while at + 8 <= len(data):
            number, length, size, kind = struct.unpack_from("<IHBB", data, at)
            if length < 8 or at % self.block_size + length > self.block_size or 8 + size > length:
                raise self.broken(f"inode {inode.number}: a broken directory")
            name = data[at + 8:at + 8 + size]
            # Kind 0xDE is the block's checksum (metadata_csum).
            if number and kind != 0xDE and name not in (b".", b".."):
                if b"/" in name or b"\0" in name or not name:
                    raise Refused(f"inode {inode.number}: a name that is none: {name!r}")
                found.append((name.decode(errors="surrogateescape"), number))
            at += length
        return sorted(found)

    def link(self, inode: Inode) -> str:
        """Where a symbolic link points."""
        if inode.size > _LARGEST_LINK:
            raise Refused(f"inode {inode.number}: a link of {inode.size} bytes")
        raw = inode.block[:inode.size] if inode.size < 60 and not inode.word(0x20) & _EXTENTS else (
            self.content(inode).read())
        return raw.decode(errors="surrogateescape")

    def xattrs(self, inode: Inode) -> dict[str, bytes]:
        """Extended attributes, such as capabilities of programs; those in the inode and those in a block."""
        found: dict[str, bytes] = {}
        if self.inode_size > 128:
            rest = inode.raw[128 + inode.half(0x80):]
            if len(rest) >= 4 and struct.unpack_from("<I", rest)[0] == _XATTR_MAGIC:
                found |= self._attributes(inode, rest[4:], rest[4:])
        block = inode.word(0x68) | inode.half(0x76) << 32
        if block:
            data = self.read(block * self.block_size, self.block_size)
            if struct.unpack_from("<I", data)[0] == _XATTR_MAGIC:
                found |= self._attributes(inode, data[32:], data)
        return found

    def _attributes(self, inode: Inode, entries: bytes, values: bytes) -> dict[str, bytes]:
        found, at = {}, 0
        while at + 16 <= len(entries) and entries[at:at + 4] != b"\0\0\0\0":
            length, kind, place, elsewhere, size = struct.unpack_from("<BBHII", entries, at)
            name = entries[at + 16:at + 16 + length]
            if kind not in _PREFIXES or elsewhere or place + size > len(values):
                raise Refused(f"inode {inode.number}: an extended attribute that is not read here ({kind}, {name!r})")
            found[_PREFIXES[kind] + name.decode(errors="replace")] = values[place:place + size]
            at += 16 + (length + 3) // 4 * 4
        return found


class Content(io.RawIOBase):
    """The bytes of a file, holes as zeros."""

    def __init__(self, system: Ext4, inode: Inode) -> None:
        self.system, self.size, self.at = system, inode.size, 0
        self.left = system.pieces(inode)
        self.piece = next(self.left, None)

    def read(self, size: int = -1) -> bytes:
        wanted = self.size - self.at if size < 0 else min(size, self.size - self.at)
        parts = []
        while wanted > 0:
            while self.piece and self.piece[0] + self.piece[2] <= self.at:
                self.piece = next(self.left, None)
            begin, place, length = self.piece or (self.size, 0, 0)
            if self.at < begin:
                part = bytes(min(wanted, begin - self.at))
            else:
                inside = self.at - begin
                part = self.system.read(place + inside, min(wanted, length - inside))
            parts.append(part)
            self.at += len(part)
            wanted -= len(part)
        return b"".join(parts)


def convert(system: Ext4, out: Path, wanted: Sequence[str] = ()) -> None:
    """Write the archive; `wanted` are paths without a leading slash, taken with all below them; none for all.

    Raises:
        Refused: something in the file system is broken, or is not read here.
    """
    seen: dict[int, str] = {}
    budget = 4 * system.size
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as target:
        for name, inode in walk(system):
            if wanted and not any(name == each or name.startswith(f"{each}/") for each in wanted):
                continue
            info = describe(system, name, inode, seen)
            if info is None:
                continue
            budget -= info.size + tarfile.BLOCKSIZE
            if budget < 0:
                raise Refused("the files are together larger than the file system: it lies about them")
            target.addfile(info, system.content(inode) if info.isreg() else None)


def walk(system: Ext4) -> Iterator[tuple[str, Inode]]:
    """Every file with its path, a directory before what is in it."""
    entered: set[int] = set()
    waiting = [(".", system.inode(ROOT_INODE))]
    while waiting:
        name, inode = waiting.pop()
        yield name, inode
        if not stat.S_ISDIR(inode.mode):
            continue
        if inode.number in entered or name.count("/") > _DEPTH:
            raise system.broken(f"/{name}: a directory that is in itself")
        entered.add(inode.number)
        below = [(each, number) for each, number in system.entries(inode) if (name, each) != (".", LOST)]
        waiting += [(each if name == "." else f"{name}/{each}", system.inode(number))
                    for each, number in reversed(below)]


def describe(system: Ext4, name: str, inode: Inode, seen: dict[int, str]) -> tarfile.TarInfo | None:
    """A file's entry; None for a socket, which is nothing without its process."""
    kind = stat.S_IFMT(inode.mode)
    if kind == stat.S_IFSOCK:
        return None
    if kind not in _TYPES:
        raise Refused(f"/{name}: a file of no kind ({inode.mode:#o})")
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, (info.uid, info.gid) = stat.S_IMODE(inode.mode), inode.word(0x10), inode.owner
    info.type = _TYPES[kind]
    if inode.number in seen:
        info.type, info.linkname = tarfile.LNKTYPE, seen[inode.number]
        return info
    if inode.half(0x1A) > 1 and kind != stat.S_IFDIR:
        seen[inode.number] = name
    if kind == stat.S_IFREG:
        info.size = inode.size
    elif kind == stat.S_IFLNK:
        info.linkname = system.link(inode)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        old, new = struct.unpack_from("<II", inode.block)
        info.devmajor, info.devminor = (old >> 8, old & 0xFF) if old else (
            new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
    info.pax_headers = {f"SCHILY.xattr.{key}": value.decode(errors="surrogateescape")
                        for key, value in sorted(system.xattrs(inode).items())}
    return info
