"""MRTD of a TDX guest: the pages of its firmware that are there at the start (Intel TDX Module Base Architecture).

Each section of the firmware's TDVF metadata is added page by page (TDH.MEM.PAGE.ADD); of those that say so the content
is measured as well, in pieces of 256 bytes (TDH.MR.EXTEND) after each page, as KVM does it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cursor import Cursor
from vmtool.attest.measure.guest import NotComputed
from vmtool.attest.measure.ovmf import table_entry
from vmtool.frozen import dataclass

METADATA = "e47a6535-984a-4798-865e-4685a7bf8ec2"
SIGNATURE, VERSION = b"TDVF", 1
MR_EXTEND, PAGE_AUG = 1, 2
PAGE, PIECE = 4096, 256
MOST_SECTIONS, MOST_BYTES = 64, 256 << 20


@dataclass(frozen=True)
class Section:
    """A piece of the guest's first memory; `data` is shorter than `size` where zeros follow."""

    data: bytes
    address: int
    size: int
    attributes: int


def compute_mrtd(firmware: bytes) -> bytes:
    """The measurement.

    Raises:
        NotComputed: the firmware has no metadata of TDX, or odd ones.
    """
    try:
        sections = tuple(_sections(firmware))
    except NotProven as error:
        raise NotComputed(str(error)) from error
    digest = hashlib.sha384()
    for section in sections:
        if section.attributes & PAGE_AUG:
            continue
        memory = section.data.ljust(section.size, b"\0")
        for offset in range(0, section.size, PAGE):
            digest.update(_operation(b"MEM.PAGE.ADD", section.address + offset))
            if section.attributes & MR_EXTEND:
                for at in range(offset, offset + PAGE, PIECE):
                    digest.update(_operation(b"MR.EXTEND", section.address + at) + memory[at:at + PIECE])
    return digest.digest()


def _operation(name: bytes, address: int) -> bytes:
    return (name.ljust(16, b"\0") + address.to_bytes(8, "little")).ljust(128, b"\0")


def _sections(firmware: bytes) -> Iterator[Section]:
    offset = int.from_bytes(table_entry(firmware, METADATA)[:4], "little")
    if not 0 < offset <= len(firmware):
        raise NotComputed("the firmware's TDX metadata lie outside of it")
    cursor = Cursor(firmware[len(firmware) - offset:], "the firmware's TDX metadata")
    signature, _, version, count = cursor.take(4), cursor.number(4), cursor.number(4), cursor.number(4)
    if signature != SIGNATURE or version != VERSION or not 0 < count <= MOST_SECTIONS:
        raise NotComputed("the firmware's TDX metadata are of no known form")
    for _ in range(count):
        start, size, address, memory = (cursor.number(width) for width in (4, 4, 8, 8))
        _, attributes = cursor.number(4), cursor.number(4)
        if start + size > len(firmware) or size > memory or memory > MOST_BYTES or memory % PAGE or address % PAGE:
            raise NotComputed("a section of the firmware's TDX metadata is odd")
        yield Section(firmware[start:start + size], address, memory, attributes)
