"""What an image is, told from crafted heads: sound ones, foreign ones, and ones that lie."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rootfs.make import EROFS, LUKS, image, kata_dax, superblock
from vmtool.errors import Refused
from vmtool.rootfs.add.workers.ext4_to_tar import Ext4
from vmtool.rootfs.format.image_file import MIB, parse_label, read_image
from vmtool.rootfs.format.layout import Kind, dax_info, fit
from vmtool.rootfs.format.signatures import recognise
from vmtool.rootfs.format.superblock import parse_superblock


@pytest.mark.parametrize(("kind", "verity", "start"), [
    ("bare", False, 0), ("kata", False, MIB), ("kata", True, MIB), ("kata-dax", False, 3 * MIB),
    ("kata-dax", True, 3 * MIB)])
def test_every_layout_that_is_made_is_recognised(tmp_path: Path, kind: Kind, verity: bool, start: int) -> None:
    geometry = fit(kind, 256 * MIB, verity=verity)
    found = read_image(image(tmp_path / "i", geometry))
    assert (found.kind, found.problem) == (kind, "")
    assert found.rootfs and (found.rootfs.start, found.rootfs.holds) == (start, "ext4")
    assert bool(found.hashes) == verity
    assert found.superblock and found.superblock.size == geometry.size


def test_erofs_is_recognised_bare_and_in_a_partition(tmp_path: Path) -> None:
    kinds: tuple[Kind, ...] = ("bare", "kata")
    for kind in kinds:
        found = read_image(image(tmp_path / kind, fit(kind, 64 * MIB, verity=False), EROFS))
        assert (found.kind, found.rootfs and found.rootfs.holds, found.problem) == (kind, "erofs", "")


@pytest.mark.parametrize(("head", "kind"), [
    (b"", "empty"), (b"\0" * 5000, "unknown"), (b"hello", "unknown"), (b"QFI\xfb\0\0\0\3", "qcow2"), (LUKS, "luks"),
    (b"\x1f\x8b\x08", "gzip"), (b"070701000", "initrd"), (b"\x7fELF\2\1\1", "program"), (b"hsqs", "squashfs"),
    (bytes(510) + b"\x55\xaa", "unknown"), (gzip.compress(b"070701000", mtime=0), "initrd"),
    (gzip.compress(b"hello", mtime=0), "gzip"),
], ids=lambda value: str(value[:20]))
def test_what_is_no_image_has_a_name_and_a_problem(tmp_path: Path, head: bytes, kind: str) -> None:
    path = tmp_path / "i"
    path.write_bytes(head)
    found = read_image(path)
    assert found.kind == kind
    assert found.problem


def test_an_encrypted_root_partition_is_named(tmp_path: Path) -> None:
    found = read_image(image(tmp_path / "i", fit("kata", 64 * MIB, verity=False), LUKS))
    assert (found.kind, found.problem) == ("luks", "it is encrypted (LUKS)")


@pytest.mark.parametrize(("kind", "size", "problem"), [
    ("kata", 100 * MIB, "partition 1 ends at byte"), ("bare", 100 * MIB, "the file system has"),
    ("kata-dax", 3 * MIB + 1500, "partition 1 ends")])
def test_a_truncated_image_is_told(tmp_path: Path, kind: Kind, size: int, problem: str) -> None:
    found = read_image(image(tmp_path / "i", fit(kind, 256 * MIB, verity=False), size=size))
    assert problem in found.problem


def test_a_missing_hash_partition_is_told(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "i", verity=True)
    os.truncate(path, 256 * MIB - 4096)
    assert "partition 2 ends" in read_image(path).problem


@pytest.mark.parametrize("entries", [
    [(0x80, 0x05, 2048, 100)], [(0x17, 0x83, 2048, 100)], [(0, 0x83, 0, 100)], [(0, 0x83, 2048, 0)],
    [(0, 0x83, 2048, 100), (0, 0x83, 2100, 100)], [(0, 0x83, 4096, 10), (0, 0x83, 2048, 10)]],
    ids=["extended", "flags", "at-zero", "nothing", "overlap", "backwards"])
def test_an_unsound_label_is_no_label(entries: list[tuple[int, int, int, int]]) -> None:
    head = bytearray(512)
    for number, (boot, kind, start, size) in enumerate(entries):
        struct.pack_into("<B3xB3xII", head, 446 + 16 * number, boot, kind, start, size)
    head[510:] = b"\x55\xaa"
    assert parse_label(bytes(head)) == []


def test_a_protective_label_is_gpt() -> None:
    head = bytearray(512)
    struct.pack_into("<B3xB3xII", head, 446, 0, 0xEE, 1, 0xFFFFFFFF)
    head[510:] = b"\x55\xaa"
    assert parse_label(bytes(head)) == "gpt"


@given(st.binary(max_size=3000))
def test_no_bytes_are_too_odd_to_be_looked_at(data: bytes) -> None:
    assert isinstance(recognise(data), str)
    assert isinstance(parse_label(data), str | list)


@pytest.mark.parametrize(("options", "clean", "encrypted", "clustered"), [
    ({}, True, False, False), ({"state": 0}, False, False, False), ({"incompat": 0x84}, False, False, False),
    ({"incompat": 0x10080}, True, True, False), ({"ro_compat": 0x200}, True, False, True)])
def test_a_superblock_tells_state_encryption_and_clusters(options: dict[str, int], clean: bool, encrypted: bool,
                                                          clustered: bool) -> None:
    found = parse_superblock(superblock(5 << 40, **options))
    assert found and found.size == 5 << 40
    assert (found.clean, found.encrypted, found.clustered) == (clean, encrypted, clustered)


@pytest.mark.parametrize("data", [superblock(1 << 30, shift=7), superblock(0), superblock(1 << 30)[:1500]])
def test_a_superblock_that_makes_no_sense_is_none(data: bytes) -> None:
    assert parse_superblock(data) is None


def test_only_regular_files_are_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path, "not a regular file"), (tmp_path / "pipe", "not a regular file"),
                          (tmp_path / "absent", "no such file")):
        with pytest.raises(Refused, match=message):
            read_image(path)


def test_the_dax_header_has_the_checksum_that_the_kernel_computes() -> None:
    """drivers/nvdimm/core.c, nd_fletcher64: the second sum is over the running first ones."""
    block = bytearray(dax_info())
    stored = int.from_bytes(block[4088:], "little")
    block[4088:] = bytes(8)
    words = struct.unpack("<1024I", block)
    low = sum(words) & 0xFFFFFFFF
    high = sum(sum(words[:end]) & 0xFFFFFFFF for end in range(1, 1025)) & 0xFFFFFFFF
    assert stored == high << 32 | low
    assert block[:16] == b"NVDIMM_PFN_INFO\0"


@pytest.mark.parametrize(("start", "place"), [(0, "{}"), (3 << 20, "'{}?offset=3145728'")])
def test_what_e2fsck_may_repair_is_told_of_the_image_itself(tmp_path: Path, start: int, place: str) -> None:
    image = tmp_path / "i.img"
    image.write_bytes(bytes(start) + superblock(1 << 30, state=0))
    with pytest.raises(Refused, match="was not unmounted") as refused:
        Ext4(image, start)
    assert refused.value.hint.endswith(f"e2fsck -f {place.format(image)} repairs it")
