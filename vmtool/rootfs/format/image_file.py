"""What an image file is, by its first bytes: untrusted input, so every number is checked against the size.

Kata's images (osbuilder, image_builder.sh) have a DOS label, the root file system in partition 1 and, with dm-verity,
the hashes in partition 2. With the DAX header the file starts with a label for the whole file and an NVDIMM info block;
2 MiB further the same label follows once more, counted from there, for kernels that map the file as memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.rootfs.format.signatures import is_cpio, recognise
from vmtool.rootfs.format.superblock import Superblock, parse_superblock

MIB = 1 << 20
HEAD = 4 * MIB
SECTOR = 512
DAX_PLACE, DAX_SIGNATURE = 4096, b"NVDIMM_PFN_INFO\0"
_EXTENDED = (0x05, 0x0F, 0x85)
_GPT_PROTECTIVE = 0xEE


@dataclass(frozen=True)
class Extent:
    """A piece of the file: start and size in bytes, and what was recognised in it ("" for nothing)."""

    start: int
    size: int
    holds: str = ""


@dataclass(frozen=True)
class ImageFile:
    """An image.

    Args:
        kind: "bare" (a file system from byte 0), "kata", "kata-dax", "disk" (other partitions), or the name of what
            it is instead, such as "qcow2", "luks", "gpt", "empty" or "unknown"; "" when it could not be read.
        size: of the file in bytes; `allocated` is what it takes on disk.
        partitions: of the DOS label.
        rootfs: where the root file system lies, when it is one of Kata's layouts.
        hashes: where the dm-verity hashes may lie: partition 2, when no file system is in it.
        superblock: of an ext4 root file system.
        shared: the file has further names (hard links), which would change with it.
        grow_interrupted: growing it was interrupted, and its undo is next to it.
    """

    path: Path
    kind: str
    size: int
    allocated: int
    partitions: tuple[Extent, ...] = ()
    rootfs: Extent | None = None
    hashes: Extent | None = None
    superblock: Superblock | None = None
    shared: bool = False
    grow_interrupted: bool = False

    @property
    def problem(self) -> str:
        """Why it is no sound image, or nothing."""
        if self.grow_interrupted:
            return "growing it was interrupted: vmtool recover brings it back"
        if self.truncated:
            return f"truncated: {self.truncated}"
        if self.rootfs is None:
            return {"empty": "the file is empty", "unknown": "not recognised as any kind of image",
                    "luks": "it is encrypted (LUKS)"}.get(self.kind, f"it is {self.kind}, not a guest image")
        return ""

    @property
    def truncated(self) -> str:
        """Which bytes at its end are missing, or nothing."""
        for number, each in enumerate(self.partitions, 1):
            if each.start + each.size > self.size:
                return f"partition {number} ends at byte {each.start + each.size}, the file at {self.size}"
        if self.rootfs and self.superblock and self.superblock.size > self.rootfs.size:
            return f"the file system has {self.superblock.size} bytes, and only {self.rootfs.size} are there"
        return ""


def undo_file_path(image: Path) -> Path:
    """The file beside an image that is being grown: see `vmtool.rootfs.grow.workers.roll_back`."""
    return image.with_name(f".{image.name}.vmtool-undo")


def is_grow_interrupted(image: Path) -> bool:
    """Whether there is such a file. A link to nowhere is one; with too long a name there is none."""
    return os.path.lexists(undo_file_path(image))


def manifest_path(image: Path) -> Path:
    """Where the manifest of an image lies when no other place is named."""
    return image.with_name(f"{image.name}.manifest.json")


def read_image(path: Path) -> ImageFile:
    """Look at the head of an image, and at the head of its first partition.

    Raises:
        Refused: there is no such file, it cannot be read, or it is a directory, a device or a pipe.
    """
    try:
        # O_NONBLOCK: a pipe in the image's place must not hang the look at it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path}: not a regular file")
        found = parse_image(path, status.st_size, status.st_blocks * SECTOR,
                            lambda start: os.pread(descriptor, HEAD, start))
        return dataclasses.replace(found, shared=status.st_nlink > 1, grow_interrupted=is_grow_interrupted(path))
    finally:
        os.close(descriptor)


def look_at_image(reader: Reader, path: str) -> ImageFile | None:
    """The same of any machine, without an error: None when there is no such file, kind "" when it cannot be read.
    Whether it is shared, and what it takes on disk, is not looked at."""
    def head(start: int) -> bytes:
        piece = reader.piece(path, start, HEAD)
        return piece.data if piece else b""

    whole = reader.piece(path, 0, HEAD)
    if whole is None:
        return None
    if whole.size and not whole.data:
        return ImageFile(Path(path), "", whole.size, whole.size)
    found = parse_image(Path(path), whole.size, whole.size, head)
    return dataclasses.replace(found, grow_interrupted=reader.exists(str(undo_file_path(Path(path)))))


def parse_image(path: Path, size: int, allocated: int, read: Callable[[int], bytes]) -> ImageFile:
    """What the file is; `read` gives the first bytes of what starts at a place in it."""
    head = read(0)
    held = recognise(head)
    if held in ("ext4", "erofs"):
        return ImageFile(path, "bare", size, allocated, (), Extent(0, size, held), None, parse_superblock(head))
    if held:
        return ImageFile(path, "initrd" if held == "gzip" and is_cpio(head) else held, size, allocated)
    found = parse_label(head)
    if not found:
        return ImageFile(path, "unknown" if size else "empty", size, allocated)
    if isinstance(found, str):
        return ImageFile(path, found, size, allocated)
    heads = [read(each.start) if each.start < size else b"" for each in found]
    partitions = tuple(Extent(each.start, each.size, recognise(data)) for each, data in zip(found, heads, strict=True))
    first = partitions[0]
    if first.holds not in ("ext4", "erofs") or len(partitions) > 2:
        # An encrypted root is worth its own name: the remedy differs.
        return ImageFile(path, "luks" if first.holds == "luks" else "disk", size, allocated, partitions)
    dax = head[DAX_PLACE:DAX_PLACE + len(DAX_SIGNATURE)] == DAX_SIGNATURE
    hashes = partitions[1] if len(partitions) == 2 and not partitions[1].holds else None
    return ImageFile(path, "kata-dax" if dax else "kata", size, allocated, partitions, first, hashes,
                     parse_superblock(heads[0]))


def parse_label(head: bytes) -> list[Extent] | str:
    """The used entries of a DOS label, in order; "gpt" for a protective one, empty when there is no sound label."""
    if len(head) < SECTOR or head[510:512] != b"\x55\xaa":
        return []
    found = []
    for number in range(4):
        boot, kind, start, sectors = struct.unpack_from("<B3xB3xII", head, 446 + 16 * number)
        if kind == _GPT_PROTECTIVE:
            return "gpt"
        if kind in _EXTENDED or boot not in (0, 0x80) or (kind and not (start and sectors)):
            return []
        if kind:
            found.append(Extent(start * SECTOR, sectors * SECTOR))
    ordered = sorted(found, key=lambda each: each.start)
    overlap = any(one.start + one.size > other.start for one, other in itertools.pairwise(ordered))
    return [] if overlap or ordered != found else found
