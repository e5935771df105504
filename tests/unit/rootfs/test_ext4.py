"""ext4's numbers, which nobody vouches for: what makes no sense grows nothing, and costs neither time nor memory."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from tests.unit.rootfs.make import superblock
from vmtool.errors import Refused
from vmtool.rootfs.format.block_groups import read_metadata
from vmtool.rootfs.format.sparse import next_data, written
from vmtool.rootfs.format.superblock import parse_superblock

GIB = 1 << 30


def test_a_sound_superblock_tells_how_far_it_can_grow() -> None:
    found = parse_superblock(superblock(GIB))
    assert found and found.largest == 512 * GIB


@pytest.mark.parametrize("lie", [
    {"descriptor": 0xFFFF}, {"descriptor": 0}, {"descriptor": 48}, {"per_group": 1}, {"per_group": 0},
    {"per_group": 32769 * 8}, {"per_group": 1001}, {"first": 1 << 25}, {"first": 1}, {"reserved": 1025},
    {"inode": 0}, {"inode": 200}, {"inode": 8192}, {"revision": 0},
    # Descriptors that do not fit into the first group; orphan_file, to which resize2fs writes.
    {"per_group": 256, "reserved": 255}, {"compat": 0x1010}], ids=str)
def test_numbers_that_make_no_sense_grow_nothing(lie: dict[str, int]) -> None:
    found = parse_superblock(superblock(GIB, **lie))
    assert found and found.largest == 0


@pytest.mark.parametrize("lie", [(1 << 63, 9, 10), (8, 1 << 40, 10), (8, 9, GIB // 4096 - 1), (0, 9, 10)], ids=str)
def test_books_behind_the_end_are_refused(lie: tuple[int, int, int]) -> None:
    head = bytearray(superblock(GIB))
    struct.pack_into("<I", head, 1024 + 0x28, 8192)
    described = bytearray()
    for number in range(8):
        places = lie if number == 5 else (8, 9, 10)
        described += struct.pack("<III", *(place & 0xFFFFFFFF for place in places)).ljust(32, b"\0")
        described += struct.pack("<III", *(place >> 32 for place in places)).ljust(32, b"\0")
    data = bytes(head).ljust(4096, b"\0") + bytes(described)
    with pytest.raises(Refused, match="bitmaps or inodes of group 5 lie behind its end"):
        read_metadata(lambda at, length: data[at:at + length].ljust(length, b"\0"))


def test_holes_are_told_and_a_disk_that_cannot_be_read_is_no_hole(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "sparse").open("w+b") as file:
        file.write(b"x" * 4096)
        file.seek(1 << 20)
        file.write(b"y")
        file.truncate(1 << 21)
        found = file.fileno()
        file.flush()
        assert list(written(found, 1 << 21)) == [(0, 4096), (1 << 20, (1 << 20) + 4096)]
        assert next_data(found, 5000, 6000) == 6000

        def broken(*arguments: int) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "lseek", broken)
        with pytest.raises(OSError, match="Input/output"):
            next_data(found, 0, 4096)
