"""Where things lie in an image: pure arithmetic, and the bytes of labels and headers."""

from __future__ import annotations

import struct
from dataclasses import asdict
from typing import Any, Literal

from vmtool.frozen import dataclass
from vmtool.rootfs.format.hash_tree import BLOCK, tree_blocks
from vmtool.rootfs.format.image_file import DAX_PLACE, DAX_SIGNATURE, MIB, SECTOR

Kind = Literal["bare", "kata", "kata-dax"]
KINDS: tuple[Kind, ...] = ("bare", "kata", "kata-dax")
# Of the first partition. The DAX header takes 2 MiB, and its info block demands 2 MiB alignment (Kata's osbuilder).
STARTS: dict[Kind, int] = {"bare": 0, "kata": MIB, "kata-dax": 3 * MIB}
DAX_HEADER = DAX_ALIGNMENT = 2 * MIB
# Kata maps images as memory in pieces of that size (its image_builder.sh, on memory alignment).
GRAIN = 128 * MIB
_LINUX = 0x83
_PFN_MODE_RAM = 1


@dataclass(frozen=True)
class Geometry:
    """Bytes: of the whole file, of the root file system, of the dm-verity hashes (0 and 0 when there are none)."""

    kind: Kind
    total: int
    start: int
    size: int
    hash_start: int = 0
    hash_size: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fit(kind: Kind, total: int, *, verity: bool) -> Geometry:
    """The largest root file system in a file of `total` bytes, with room for its hashes behind it.

    Raises:
        ValueError: no room is left, or hashes are wanted without a partition for them.
    """
    if verity and kind == "bare":
        raise ValueError("dm-verity's hashes lie in partition 2: choose the layout kata or kata-dax")
    start = STARTS[kind]
    room = total - start
    if room < 8 * MIB:
        raise ValueError(f"{total} bytes are too small for an image")
    if not verity:
        return Geometry(kind, total, start, room // BLOCK * BLOCK)
    # A hash block covers 128 data blocks: start from that, and give back what the upper levels take.
    size = room * 127 // 128 // MIB * MIB
    while size + _hash_room(size) > room:
        size -= MIB
    return Geometry(kind, total, start, size, start + size, _hash_room(size))


def round_up(size: int, grain: int) -> int:
    """The next multiple."""
    return -(-size // grain) * grain


def _hash_room(size: int) -> int:
    return round_up(tree_blocks(size // BLOCK) * BLOCK, MIB)


def label(geometry: Geometry, *, shift: int = 0) -> bytes:
    """A DOS label of one sector; `shift` is how many bytes of the file lie before it."""
    entries = [(geometry.start, geometry.size)]
    entries += [(geometry.hash_start, geometry.hash_size)] if geometry.hash_size else []
    sector = bytearray(SECTOR)
    for number, (start, size) in enumerate(entries):
        # Cylinders and heads are of no use to Linux; FE FF FF says "see the sector numbers".
        struct.pack_into("<B3sB3sII", sector, 446 + 16 * number, 0, b"\xfe\xff\xff", _LINUX, b"\xfe\xff\xff",
                         (start - shift) // SECTOR, size // SECTOR)
    # A fixed disk signature, so that the same recipe gives the same bytes: "vmto".
    sector[440:444] = b"vmto"
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def headers(geometry: Geometry) -> dict[int, bytes]:
    """The bytes before the root file system, by their place in the file."""
    if geometry.kind == "bare":
        return {}
    if geometry.kind == "kata":
        return {0: label(geometry)}
    return {0: label(geometry), DAX_PLACE: dax_info(), DAX_HEADER: label(geometry, shift=DAX_HEADER)}


def dax_info() -> bytes:
    """The NVDIMM info block (struct nd_pfn_sb of Linux's drivers/nvdimm/pfn.h), with Kata's values."""
    block = bytearray(4096)
    block[:16] = DAX_SIGNATURE
    # flags, major, minor, dataoff, npfns, mode, start_pad, end_trunc, align
    struct.pack_into("<IHHQQIIII", block, 48, 0, 0, 2, DAX_HEADER, 0, _PFN_MODE_RAM, 0, 0, DAX_ALIGNMENT)
    struct.pack_into("<Q", block, 4088, _fletcher64(block))
    return bytes(block)


def _fletcher64(block: bytearray) -> int:
    """The kernel's nd_fletcher64 (drivers/nvdimm/core.c) over little-endian words."""
    low = high = 0
    for (word,) in struct.iter_unpack("<I", block):
        low = (low + word) & 0xFFFFFFFF
        high = (high + low) & 0xFFFFFFFFFFFFFFFF
    return (high << 32 | low) & 0xFFFFFFFFFFFFFFFF
