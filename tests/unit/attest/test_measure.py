"""What a launch must show, computed before it starts: against published values, and each byte counts."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.attest import make_firmware
from tests.unit.attest.genuine_guest import BOOTED, CMDLINE, RTMR2
from vmtool.attest.measure.authenticode import measured_parts
from vmtool.attest.measure.boot_events import CALLING, LEAVING, SEPARATOR, extend, extend_digests, stub_events
from vmtool.attest.measure.compute import compute
from vmtool.attest.measure.guest import MeasuredGuest, NotComputed
from vmtool.attest.measure.launch_digest import launch_digest
from vmtool.attest.measure.mrtd import compute_mrtd
from vmtool.attest.measure.reference_text import reference_text
from vmtool.attest.measure.trust_domain import start_logs
from vmtool.attest.reference import read_reference, sections


@pytest.fixture
def guest(tmp_path: Path) -> MeasuredGuest:
    """An SNP guest of four vCPUs."""
    for name, data in (("firmware", make_firmware.snp_firmware()), ("kernel", make_firmware.linux()),
                       ("initrd", b"initrd")):
        (tmp_path / name).write_bytes(data)
    return MeasuredGuest("snp", "x86_64", tmp_path / "firmware", tmp_path / "kernel", tmp_path / "initrd", "quiet",
                         vcpus=4, memory=4 << 30, machine="q35", signature=(25, 1, 1), image="sha256:" + "ab" * 32,
                         root_hashes={"root": "cd" * 32})


def as_tee(guest: MeasuredGuest, tee: str, **changes: Any) -> MeasuredGuest:
    """The same guest in another TEE, with a firmware for it."""
    if tee == "tdx" and guest.firmware:
        guest.firmware.write_bytes(make_firmware.tdx_firmware([(0, 4096, 0xfffff000, 4096, 1)]))
    return replace(guest, tee=tee, **changes)


def test_rtmr2_of_a_genuine_quote() -> None:
    assert extend(stub_events(CMDLINE, None), hashlib.sha384).hex() == RTMR2


@pytest.mark.parametrize("booted", BOOTED, ids=lambda booted: booted["qemu"])
def test_rtmr1_of_genuine_quotes(booted: dict[str, str]) -> None:
    """The events after the kernel's are those of any kernel: with its digest they lead to the quote's value."""
    anywhere = next(start_logs(make_firmware.linux()))
    assert anywhere[1:] == tuple(hashlib.sha384(event).digest() for event in (CALLING, SEPARATOR, *LEAVING))
    log = (bytes.fromhex(booted["kernel"]), *anywhere[1:])
    assert extend_digests(log, hashlib.sha384).hex() == booted["rtmr1"]


def test_rtmr1_of_each_form_of_the_kernel_and_of_each_age_of_the_firmware(guest: MeasuredGuest) -> None:
    values = compute(as_tee(guest, "tdx")).values["tdx"]["rtmr1"]
    assert len(values) == len(set(values)) == 4
    later, earlier = start_logs(make_firmware.linux())
    assert set(later) - set(earlier) == {hashlib.sha384(SEPARATOR).digest()}
    for log in (later, earlier):
        assert extend_digests(log, hashlib.sha384).hex() in values, "as it is"


@pytest.mark.parametrize("change", [{"cmdline": "vga=791"}, {"machine": "microvm"}, {"kernel": None}])
def test_without_rtmr1_no_kernel_is_expected_so_nothing_of_tdx_is(guest: MeasuredGuest, change: dict[str, Any]) -> None:
    made = compute(as_tee(guest, "tdx", **change))
    assert "tdx" not in made.values
    assert made.missing["tdx.rtmr1"]


@pytest.mark.parametrize(("tee", "tpm", "keys"), [
    ("snp", False, {"snp.measurement"}), ("tdx", False, {"tdx.rtmr1", "tdx.rtmr2"}), ("none", True, {"tpm.pcrs"}),
])
@pytest.mark.parametrize("part", ["cmdline", "kernel", "initrd"])
def test_each_byte_changes_the_values_and_nothing_else_does(guest: MeasuredGuest, tee: str, tpm: bool, keys: set[str],
                                                            part: str) -> None:
    asked = as_tee(guest, tee, tpm=tpm)

    def values(of: MeasuredGuest) -> dict[str, object]:
        made = compute(of)
        return {f"{section}.{key}": value for section, table in made.values.items() if section != "launch"
                for key, value in table.items()}

    before = values(asked)
    assert values(asked) == before, "the same files give the same values"
    assert keys <= before.keys()
    if part == "cmdline":
        after = values(replace(asked, cmdline="quieu"))
    else:
        path = getattr(asked, part)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
        after = values(asked)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == (keys if tee != "tdx" else {"tdx.rtmr1" if part == "kernel" else "tdx.rtmr2"})
    if tpm:
        registers = {number for number, value in before["tpm.pcrs"]["sha256"].items()  # type: ignore[index]
                     if value != after["tpm.pcrs"]["sha256"][number]}  # type: ignore[index]
        assert registers == {4 if part == "kernel" else 9}


def test_a_register_that_is_not_computed_is_named(guest: MeasuredGuest) -> None:
    made = compute(replace(guest, tee="none", tpm=True, qemu="7.2.0"))
    assert made.values["tpm"]["pcrs"]["sha256"].keys() == {9}
    assert "random seed" in made.missing["tpm.pcrs.sha256.4"]
    assert "tpm" not in compute(replace(guest, tee="none", tpm=True, cmdline=None, unknown="?")).values


@pytest.mark.parametrize("change", [{"vcpus": 5}, {"signature": (25, 17, 1)}, {"initrd": None}, {"kernel": None}])
def test_what_else_the_launch_digest_depends_on(guest: MeasuredGuest, change: dict[str, object]) -> None:
    assert len(launch_digest(guest)) == 48
    assert launch_digest(replace(guest, **change)) != launch_digest(guest)  # type: ignore[arg-type]
    assert launch_digest(replace(guest, memory=8 << 30)) == launch_digest(guest)


NORMAL, ZERO, SECRETS, CPUID = 1, 3, 5, 6


def pages_by_hand(guest: MeasuredGuest) -> Iterator[tuple[int, int, bytes]]:
    """Kind, address and content of the pages that QEMU launches an SNP guest with, but for those of the vCPUs."""
    assert guest.firmware and guest.kernel and guest.initrd and guest.cmdline

    def entry(name: str, data: bytes) -> bytes:
        return uuid.UUID(name).bytes_le + (len(data) + 18).to_bytes(2, "little") + data

    files = (guest.cmdline.encode() + b"\0", guest.initrd.read_bytes(), guest.kernel.read_bytes())
    hashes = b"".join(entry(name, hashlib.sha256(data).digest()) for name, data in zip((
        "97d02dd8-bd20-4c94-aa78-e7714d36ab2a", "44baf731-3a2f-4bd7-9af1-41e29169781d",
        "4de79437-abd2-427f-b835-d5b172d2045b"), files, strict=True))
    table = entry("9438d606-4f22-4cc9-b479-a793d411fd21", hashes)
    yield NORMAL, (1 << 32) - make_firmware.SIZE, guest.firmware.read_bytes()
    yield from ((ZERO, 0x800000, b""), (SECRETS, 0x801000, b""), (CPUID, 0x802000, b""))
    yield NORMAL, 0x810000, bytes(0xc00) + table.ljust(4096 - 0xc00, b"\0")


def test_the_launch_digest_as_amd_spells_it(guest: MeasuredGuest) -> None:
    """SEV-SNP ABI, SNP_LAUNCH_UPDATE: each page's PAGE_INFO is hashed over the digest so far."""
    digest = bytes(48)
    for kind, address, data in pages_by_hand(guest):
        content = hashlib.sha384(data).digest() if data else bytes(48)
        digest = hashlib.sha384(digest + content + (0x70).to_bytes(2, "little") + bytes((kind, 0, 0, 0, 0, 0))
                                + address.to_bytes(8, "little")).digest()
    assert launch_digest(replace(guest, vcpus=0)) == digest


@pytest.mark.parametrize(("change", "why"), [
    ({"signature": None}, "those of the SNP host"), ({"firmware": None}, "no firmware"),
    ({"firmware": Path("/nowhere")}, "/nowhere: no such file"), ({"initrd": Path("/nowhere")}, "/nowhere"),
    ({"cmdline": None, "unknown": "of Kata 9"}, "of Kata 9"), ({"kernel": Path("/")}, "regular file"),
])
def test_what_is_missing_is_named_and_the_rest_is_there(guest: MeasuredGuest, change: dict[str, object],
                                                        why: str) -> None:
    made = compute(replace(guest, **change))  # type: ignore[arg-type]
    assert why in made.missing["snp.measurement"]
    assert "snp" not in made.values, "zero host data alone would let any guest pass"
    assert made.values["launch"]["image"] == guest.image


@pytest.mark.parametrize("firmware", [b"", b"OVMF" * 2000, make_firmware.snp_firmware(hashes=False),
                                      make_firmware.snp_firmware()[:-1]])
def test_a_firmware_that_cannot_be_measured(guest: MeasuredGuest, firmware: bytes) -> None:
    assert guest.firmware
    guest.firmware.write_bytes(firmware)
    assert str(guest.firmware) in compute(guest).missing["snp.measurement"]


def by_hand(*operations: tuple[str, int, bytes]) -> bytes:
    """MRTD as Intel's specification spells it: SHA-384 over 128 bytes for each operation, and what it extends with."""
    data = b""
    for name, address, content in operations:
        data += name.encode().ljust(16, b"\0") + address.to_bytes(8, "little") + bytes(104) + content
    return hashlib.sha384(data).digest()


def test_mrtd_is_over_pages_and_what_is_extended() -> None:
    body = bytes(range(256)) * 16
    firmware = make_firmware.tdx_firmware([(0, 4096, 0xfffff000, 4096, 1), (0, 0, 0x810000, 8192, 0),
                                           (0, 0, 0x900000, 4096, 2)])
    extended = [("MR.EXTEND", 0xfffff000 + at, body[at:at + 256]) for at in range(0, 4096, 256)]
    assert compute_mrtd(firmware) == by_hand(
        ("MEM.PAGE.ADD", 0xfffff000, b""), *extended, ("MEM.PAGE.ADD", 0x810000, b""), ("MEM.PAGE.ADD", 0x811000, b""))


@pytest.mark.parametrize("sections", [[], [(0, 9000, 0, 12288, 1)], [(0, 4096, 0, 4095, 1)], [(0, 0, 1, 4096, 1)],
                                      [(0, 0, 0, 1 << 40, 0)], [(0, 0, 0, 4096, 0)] * 65])
def test_odd_metadata_of_tdx_are_no_measurement(sections: list[tuple[int, int, int, int, int]]) -> None:
    with pytest.raises(NotComputed):
        compute_mrtd(make_firmware.tdx_firmware(sections))


def test_a_kernel_is_measured_without_its_checksum_and_signatures() -> None:
    image = make_firmware.kernel()
    optional = 0x40 + 24
    signed = bytearray(image + b"signature")
    signed[optional + 64:optional + 68] = b"\1\2\3\4"
    signed[optional + 112 + 32:optional + 112 + 40] = make_firmware.words(len(image), 9)

    def digest(data: bytes) -> bytes:
        return hashlib.sha256(b"".join(measured_parts(data))).digest()

    assert digest(bytes(signed)) == digest(image)
    assert digest(make_firmware.kernel(b"dode")) != digest(image)
    assert digest(make_firmware.kernel(trailing=b"x")) != digest(image)
    assert digest(image) == hashlib.sha256(image[:optional + 64] + image[optional + 68:optional + 144]
                                           + image[optional + 152:]).digest()
    for damaged in (b"", image[:100], image[:0x300], b"XX" + image[2:], bytes(2000)):
        with pytest.raises(NotComputed):
            digest(damaged)


@pytest.mark.parametrize(("tee", "tpm", "kinds"), [
    ("snp", False, {"snp"}), ("tdx", False, {"tdx"}), ("none", True, {"tpm"}), ("none", False, set()),
    ("snp", True, {"snp", "tpm"}), ("virtcca", False, set())])
def test_the_file_is_what_verify_reads(guest: MeasuredGuest, tmp_path: Path, tee: str, tpm: bool,
                                       kinds: set[str]) -> None:
    made = compute(as_tee(guest, tee, tpm=tpm, cmdline='a="b c" \\ é \u2028'))
    path = tmp_path / "reference.yaml"
    path.write_text(reference_text("A guest.", made))
    found = read_reference(path)
    assert sections(found) == kinds
    assert (found.launch.cmdline, found.launch.image) == ('a="b c" \\ é \u2028', guest.image)
    assert found.launch.root_hashes == {"root": bytes.fromhex("cd" * 32)}
    if "snp" in kinds:
        assert found.snp.measurement == (launch_digest(replace(guest, cmdline='a="b c" \\ é \u2028')),)
