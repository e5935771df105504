"""Firmware and kernels as small as measurements allow, made by tests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
TDX = "e47a6535-984a-4798-865e-4685a7bf8ec2"
SEV_HASHES = "7255371f-3a3b-4b04-927b-1da6efa8d454"
SEV_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
SEV_RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
SIZE = 4096


def entry(name: str, data: bytes) -> bytes:
    return data + (len(data) + 18).to_bytes(2, "little") + uuid.UUID(name).bytes_le


def with_table(body: bytes, *entries: bytes) -> bytes:
    """The image: a body, the table, and 32 bytes of reset vector."""
    table = b"".join(entries)
    return body + table + (len(table) + 18).to_bytes(2, "little") + uuid.UUID(FOOTER).bytes_le + bytes(32)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def tdx_firmware(sections: Sequence[tuple[int, int, int, int, int]], body: bytes = bytes(range(256)) * 16) -> bytes:
    """Sections: start and size in the file, address, size in memory, attributes."""
    described = b"".join(words(start, size) + address.to_bytes(8, "little") + memory.to_bytes(8, "little")
                         + words(0, attributes) for start, size, address, memory, attributes in sections)
    metadata = b"TDVF" + words(16 + len(described), 1, len(sections)) + described
    after = 22 + 18 + 32
    return with_table(body + metadata, entry(TDX, words(len(metadata) + after)))


def snp_firmware(body: bytes = b"\x5a", *, hashes: bool = True) -> bytes:
    """For SNP with a page for the hashes of kernel, initrd and command line. Of SIZE bytes."""
    described = words(0x800000, 0x1000, 1, 0x801000, 0x1000, 2, 0x802000, 0x1000, 3, 0x810000, 0x1000, 0x10)
    metadata = b"ASEV" + words(16 + len(described), 1, 4) + described
    entries = [entry(SEV_RESET, words(0x80b004)), *([entry(SEV_HASHES, words(0x810c00, 0x400))] if hashes else [])]
    tail = len(b"".join(entries)) + 22 + 18 + 32
    table = (*entries, entry(SEV_METADATA, words(len(metadata) + tail)))
    rest = len(with_table(metadata, *table))
    return with_table(body.ljust(SIZE - rest, b"\0") + metadata, *table)


def kernel(content: bytes = b"code", trailing: bytes = b"") -> bytes:
    """A PE image of one section, with a checksum and a place for signatures."""
    header = bytearray(0x200)
    header[:2], header[0x3c:0x40] = b"MZ", words(0x40)
    header[0x40:0x44], header[0x46:0x48], header[0x54:0x56] = b"PE\0\0", b"\1\0", (0xf0).to_bytes(2, "little")
    optional = 0x40 + 24
    header[optional:optional + 2] = (0x20b).to_bytes(2, "little")
    header[optional + 60:optional + 64] = words(len(header))
    header[optional + 108:optional + 112] = words(16)
    section = optional + 0xf0
    header[section:section + 8] = b".text".ljust(8, b"\0")
    header[section + 16:section + 24] = words(0x200, 0x200)
    return bytes(header) + content.ljust(0x200, b"\0") + trailing


def linux(content: bytes = b"code", header: bytes = b"\0\1" + bytes(30)) -> bytes:
    """Such an image with the setup header of Linux on x86 (boot protocol 2.15).

    Args:
        header: its bytes from the loader's type on.
    """
    made = bytearray(kernel(bytes(0x100) + content))
    made[0x1f1], made[0x202:0x208], made[0x236] = 1, b"HdrS\x0f\x02", 0x7f
    made[0x210:0x210 + len(header)] = header
    return bytes(made)
