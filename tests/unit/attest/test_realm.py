"""RIM of a virtCCA guest: against the layout of RMM's descriptors, and against device trees that QEMU 7.2 has made."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtool.attest.measure.compute import compute
from vmtool.attest.measure.device_tree import parse_tree
from vmtool.attest.measure.guest import MeasuredGuest, NotComputed

TREES = Path(__file__).parents[2] / "data/device_trees"
LONGER = ("console=ttyAMA0 panic=-1 net.ifnames=0 systemd.unit=vmtool.target swiotlb=262144,force x", 123457)
GIB, MIB = 1 << 30, 1 << 20


def tree(name: str) -> bytes:
    """A recorded one: of two vCPUs and 1 GiB."""
    return gzip.decompress((TREES / f"{name}.dtb.gz").read_bytes())


def image(size: int = 3 * MIB + 4096, *, offset: int = 0) -> bytes:
    """A kernel of arm64 that takes more memory than its file."""
    made = bytearray(b"code" * 5000)
    made[8:24] = struct.pack("<QQ", offset, size)
    made[56:60] = b"ARM\x64"
    return bytes(made)


@pytest.fixture
def guest(tmp_path: Path) -> MeasuredGuest:
    """A virtCCA guest of libvirt's."""
    for name, data in (("kernel", image()), ("initrd", b"initrd"), ("tree", tree("quiet"))):
        (tmp_path / name).write_bytes(data)
    return MeasuredGuest("virtcca", "aarch64", None, tmp_path / "kernel", tmp_path / "initrd", "quiet", vcpus=2,
                         memory=GIB, machine="virt-8.2", device_tree=tmp_path / "tree")


def rim(guest: MeasuredGuest) -> str:
    made = compute(guest)
    assert not made.missing, made.missing
    found: str = made.values["virtcca"]["rim"]
    return found


def by_hand(blobs: list[tuple[int, bytes]], vcpus: int) -> str:
    """As the RMM specification lays out what is hashed, with the parameters of virtCCA's guide."""
    def sha(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    # flags (SVE, PMU), s2sz, sve_vl, num_bps, num_wps, pmu_num_ctrs, hash_algo.
    now = sha(struct.pack("<QQQQQQB4047x", 0b110, 40, 1, 0, 0, 1, 0))
    for address, data in blobs:
        assert len(data) % 4096 == 0
        for at in range(0, len(data), 4096):
            # desc_type, len, rim, ipa, flags, content.
            now = sha(struct.pack("<B7xQ32s32xQQ32s128x", 0, 256, now, address + at, 1, sha(data[at:at + 4096])))
    for number in range(vcpus):
        tec = struct.pack("<8QQQ", *[0] * 8, GIB if number == 0 else 0, number == 0)
        now = sha(struct.pack("<B7xQ32s32x32s144x", 1, 256, now, sha(tec)))
    return now.hex()


def laid_out(kernel: bytes, initrd: bytes, dtb: bytes) -> list[tuple[int, bytes]]:
    """The memory of a guest that QEMU starts with a kernel of 3 MiB and a page, and an initrd within 2 MiB."""
    tree_at = GIB + 130 * MIB
    code = struct.pack("<IIIIIIQQ", 0x580000c0, 0xaa1f03e1, 0xaa1f03e2, 0xaa1f03e3, 0x58000084, 0xd61f0080, tree_at,
                       GIB + 2 * MIB)
    return [(GIB, code.ljust(2 * MIB, b"\0")), (GIB + 2 * MIB, kernel.ljust(3 * MIB + 4096, b"\0")),
            (GIB + 128 * MIB, initrd.ljust(2 * MIB, b"\0")), (tree_at, dtb.ljust(2 * MIB, b"\0"))]


def test_it_is_the_chain_that_the_specification_lays_out(guest: MeasuredGuest) -> None:
    assert rim(guest) == by_hand(laid_out(image(), b"initrd", tree("quiet")), 2) == rim(guest)


def test_of_another_command_line_and_initrd_the_tree_is_the_one_that_qemu_makes(guest: MeasuredGuest) -> None:
    cmdline, size = LONGER
    assert guest.initrd
    guest.initrd.write_bytes(b"x" * size)
    assert rim(replace(guest, cmdline=cmdline)) == by_hand(laid_out(image(), b"x" * size, tree("longer")), 2)


@pytest.mark.parametrize(("start", "wanted"), [("quiet", "longer"), ("longer", "quiet")])
def test_a_tree_with_other_values_is_byte_for_byte_qemus(start: str, wanted: str) -> None:
    """The bytes that fill up the last word of a value are what QEMU's libfdt leaves there."""
    made, other = parse_tree(tree(start)), parse_tree(tree(wanted))
    assert made.octets() == tree(start)
    for name in ("bootargs", "linux,initrd-end"):
        made = made.with_value("/chosen", name, other.value("/chosen", name))
    assert made.octets() == tree(wanted)


def test_a_tree_with_another_kind_of_address_is_not_qemus(guest: MeasuredGuest) -> None:
    assert guest.device_tree
    guest.device_tree.write_bytes(parse_tree(tree("quiet")).with_value("/chosen", "linux,initrd-end", b"ab").octets())
    assert compute(guest).missing == {"virtcca.rim": "the device tree has an address of 2 bytes"}


@pytest.mark.parametrize("part", ["cmdline", "kernel", "initrd", "tree"])
def test_each_byte_changes_it(guest: MeasuredGuest, part: str) -> None:
    before = rim(guest)
    if part == "cmdline":
        assert rim(replace(guest, cmdline="quieu")) != before
        return
    path: Path = getattr(guest, "device_tree" if part == "tree" else part)
    data = bytearray(path.read_bytes())
    # Of the tree a byte of a value: its compatible one.
    data[data.index(b"linux,dummy-virt") if part == "tree" else len(data) - 1] ^= 1
    path.write_bytes(data)
    assert rim(guest) != before


def test_without_an_initrd_the_tree_has_its_place(guest: MeasuredGuest) -> None:
    assert guest.device_tree
    guest.device_tree.write_bytes(tree("no-initrd"))
    [code, kernel, _, (_, dtb)] = laid_out(image(), b"", tree("no-initrd"))
    place = GIB + 128 * MIB
    first = (GIB, code[1].replace(struct.pack("<Q", GIB + 130 * MIB), struct.pack("<Q", place)))
    assert rim(replace(guest, initrd=None)) == by_hand([first, kernel, (place, dtb)], 2)


@pytest.mark.parametrize(("change", "reason"), [
    ({"device_tree": None}, "dump it once"), ({"vcpus": 3}, "with 2 vCPUs and 1024 MiB, this guest has 3 and 1024"),
    ({"memory": 2 * GIB}, "this guest has 2 and 2048"), ({"memory": MIB}, "less than 256 MiB"),
    ({"cmdline": None, "unknown": "Kata's words"}, "Kata's words"), ({"kernel": None}, "boot loader"),
    ({"initrd": None}, "with an initrd, or without one")])
def test_what_is_not_known_is_named(guest: MeasuredGuest, change: dict[str, Any], reason: str) -> None:
    made = compute(replace(guest, **change))
    assert "virtcca" not in made.values
    assert reason in made.missing["virtcca.rim"]


@pytest.mark.parametrize(("data", "reason"), [
    (b"\x1f\x8b" + bytes(100), "no Image of arm64"), (image(offset=0x80000), "older than"),
    (image(size=4096), "older than"), (image(size=200 * MIB), "too large"), (b"", "no Image")])
def test_a_kernel_of_no_known_form(guest: MeasuredGuest, data: bytes, reason: str) -> None:
    assert guest.kernel
    guest.kernel.write_bytes(data)
    assert reason in compute(guest).missing["virtcca.rim"]


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "bytes are missing"), (tree("quiet")[:-1], "as QEMU dumps it"), (tree("quiet") + b"\0", "as QEMU dumps it"),
    (tree("quiet")[:-1] + b"x", "laid out"), (tree("seeds"), "kaslr-seed and rng-seed")])
def test_a_tree_that_is_none_of_qemus_or_of_one_start_alone(guest: MeasuredGuest, data: bytes, reason: str) -> None:
    assert guest.device_tree
    guest.device_tree.write_bytes(data)
    assert reason in compute(guest).missing["virtcca.rim"]


def test_a_command_line_that_has_no_room_in_the_tree(guest: MeasuredGuest) -> None:
    assert "no room" in compute(replace(guest, cmdline="x" * MIB)).missing["virtcca.rim"]


@given(edits=st.lists(st.tuples(st.integers(0, 8000), st.binary(max_size=8)), min_size=1, max_size=4))
def test_a_tree_of_any_bytes_is_one_or_refused(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(tree("quiet"))
    for at, new in edits:
        data[at:at + len(new)] = new
    try:
        found = parse_tree(bytes(data))
    except NotComputed:
        return
    assert found.octets() == data
