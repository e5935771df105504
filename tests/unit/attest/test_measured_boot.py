"""A measured boot as QEMU, OVMF and Linux make it: against the event logs of guests that were booted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.attest import make_firmware
from tests.unit.attest.cases import is_accepted, request
from tests.unit.attest.make_tpm import KEY, NONCE, Tpm, name
from vmtool.attest.measure.boot_events import CALLING, SEPARATOR, extend_digests, load_options
from vmtool.attest.measure.guest import MeasuredGuest, NotComputed
from vmtool.attest.measure.qemu_kernel import handed_kernels
from vmtool.attest.recognise import appraise_file
from vmtool.attest.tpm.event_log import parse_log, replay
from vmtool.libvirt.tpm_claims import judge_quote

DATA = Path(__file__).parents[2] / "data/tpm"


@dataclass(frozen=True)
class Boot:
    """A guest that was booted; see the README of the data."""

    log: str
    machine: str
    memory: int
    initrd: int
    initrd_sha256: str
    cmdline: str
    header: str
    filled_in: str
    measured: str

    def guest(self, **changes: Any) -> MeasuredGuest:
        guest = MeasuredGuest("none", "x86_64", None, Path("/k"), Path("/i"), self.cmdline, 1, self.memory << 20,
                              self.machine, tpm=True)
        return replace(guest, **changes)

    def expected(self, **changes: Any) -> dict[str, Any]:
        """What a reference says of it, or of one that differs in something."""
        boot = replace(self, **changes)
        digests = [bytes.fromhex(boot.measured), *(hashlib.sha256(event).digest() for event in (CALLING, SEPARATOR))]
        stub = [hashlib.sha256(load_options(boot.cmdline, initrd=True)).digest(), bytes.fromhex(boot.initrd_sha256)]
        pcrs = {number: extend_digests(each, hashlib.sha256).hex() for number, each in ((4, digests), (9, stub))}
        return {"tpm": {"keys": [name(KEY)], "pcrs": {"sha256": pcrs}},
                "launch": {"cmdline": boot.cmdline, "initrd": boot.initrd_sha256}}

    def evidence(self, log: bytes = b"") -> bytes:
        """A quote of the registers that its log leads to."""
        log = log or (DATA / self.log).read_bytes()
        values = replay(parse_log(log), "sha256")
        return Tpm(selected=tuple(range(10)), values={}, quoted=values, log=log).json()


BOOTS = [Boot(**each) for each in json.loads((DATA / "boots.json").read_text())]
boots = pytest.mark.parametrize("boot", BOOTS, ids=lambda boot: boot.log)
ANOTHER = "ab" * 32


@boots
def test_the_registers_of_a_booted_guest_are_those_that_are_computed(boot: Boot) -> None:
    assert is_accepted(boot.evidence(), request(nonce=NONCE, **boot.expected()))


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"cmdline": "console=ttyS0 other"}, ": the command line is not 'console=ttyS0 other'"),
    ({"initrd_sha256": ANOTHER}, ": the initrd is another"), ({"measured": ANOTHER}, ": the kernel is another"),
    ({"cmdline": "console=ttyS0 other", "initrd_sha256": ANOTHER},
     ": the command line is not 'console=ttyS0 other', and the initrd is another"),
]


@boots
@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_what_was_changed_is_named(boot: Boot, change: dict[str, Any], why: str) -> None:
    expected = boot.expected(**change)
    [found] = appraise_file(boot.evidence(), request(nonce=NONCE, **expected))
    assert found.unproven == ("tpm.measurement",)
    [claim] = [claim for claim in found.claims if claim.id == "tpm.measurement"]
    assert claim.evidence.endswith(why), claim
    assert claim.evidence.count("register") == 1, "what is as it was is not named"

    said = judge_quote(json.dumps({"nonce": NONCE.hex(), "evidence": json.loads(boot.evidence()),
                                   "expected": expected["tpm"], "launch": expected["launch"]}))
    assert (said.verdict, said.evidence.endswith(why)) == ("failed", True), said


def test_an_initrd_of_another_size_is_not_called_another_kernel() -> None:
    """QEMU fills in its size in the kernel's header, which register 4 has."""
    boot = BOOTS[0]
    [found] = appraise_file(boot.evidence(), request(nonce=NONCE, **boot.expected(initrd_sha256=ANOTHER,
                                                                                  measured=ANOTHER)))
    [claim] = [claim for claim in found.claims if claim.id == "tpm.measurement"]
    assert "the kernel is another" not in claim.evidence
    assert "the kernel, or the initrd's size in its header, is another" in claim.evidence
    assert ": the initrd is another" in claim.evidence


def test_all_that_was_changed_is_named() -> None:
    boot = BOOTS[0]
    [found] = appraise_file(boot.evidence(), request(nonce=NONCE, **boot.expected(
        cmdline="x", initrd_sha256=ANOTHER, measured=ANOTHER)))
    [claim] = [claim for claim in found.claims if claim.id == "tpm.measurement"]
    assert [word in claim.evidence for word in ("kernel", "command line", "initrd")] == [True] * 3


def event(register: int, kind: int, digest: bytes) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in (register, kind, 1)) + b"\x0b\0" + digest + bytes(4)


@pytest.mark.parametrize(("register", "kind", "why"), [
    (9, 6, "more was measured than command line and initrd"), (4, 0x80000003, "2 programs were started"),
    (4, 5, "the kernel is another")])
def test_more_than_was_expected_is_measured(register: int, kind: int, why: str) -> None:
    boot = BOOTS[0]
    log = (DATA / boot.log).read_bytes() + event(register, kind, bytes(32))
    [found] = appraise_file(boot.evidence(log), request(nonce=NONCE, **boot.expected()))
    [claim] = [claim for claim in found.claims if claim.id == "tpm.measurement"]
    assert (claim.verdict, why in claim.evidence) == ("failed", True), claim


def test_a_reference_without_the_kernels_register_proves_no_boot() -> None:
    boot = BOOTS[0]
    for left, why in ((9, "register 4"), (4, "register 9")):
        expected = boot.expected()
        pcrs = {left: expected["tpm"]["pcrs"]["sha256"][left]}
        said = judge_quote(json.dumps({"nonce": NONCE.hex(), "evidence": json.loads(boot.evidence()),
                                       "expected": {"keys": [], "pcrs": {"sha256": pcrs}}}))
        assert (said.verdict, why in said.evidence) == ("not-checked", True), said


@boots
def test_the_header_is_filled_in_as_qemu_does(boot: Boot) -> None:
    kernel = make_firmware.linux(header=bytes.fromhex(boot.header))
    plain, filled_in = handed_kernels(boot.guest(), kernel, boot.initrd)
    assert plain == kernel
    assert filled_in == kernel[:0x210] + bytes.fromhex(boot.filled_in) + kernel[0x230:]
    assert handed_initrd(boot, None) == bytes(8)


def handed_initrd(boot: Boot, initrd: int | None, **changes: Any) -> bytes:
    """Its address and size in the header."""
    _, filled_in = handed_kernels(boot.guest(**changes), make_firmware.linux(), initrd)
    return filled_in[0x218:0x220]


@pytest.mark.parametrize(("machine", "memory", "below"), [
    ("q35", 0xb0000000 - 1, 0xb0000000 >> 20), ("q35", 0xb0000000, 2048), ("pc-q35-rhel9.2.0", 64 << 30, 2048),
    ("pc", (3584 << 20) - 1, 3584), ("pc", 3584 << 20, 3072), ("pc-i440fx-7.2", 64 << 30, 3072),
    ("q35", 2_500_000_000, 2385), ("q35", 2560 << 20, 2560)])
def test_where_the_initrd_lies(machine: str, memory: int, below: int) -> None:
    if memory in (0xb0000000 - 1, (3584 << 20) - 1):
        below = 2048 if machine == "q35" else 3072  # libvirt rounds up to whole MiB
    found = handed_initrd(BOOTS[0], 5000, machine=machine, memory=memory)
    assert int.from_bytes(found[:4], "little") == (below << 20) - 0x28000 - 0x2000
    assert int.from_bytes(found[4:], "little") == 5000


@pytest.mark.parametrize(("change", "why"), [
    ({"architecture": "aarch64"}, "aarch64"), ({"qemu": "7.2.0"}, "random seed"), ({"machine": "microvm"}, "microvm"),
    ({"machine": "pc-i440fx-1.7"}, "pc-i440fx-1.7"), ({"cmdline": "quiet vga=791"}, "vga="),
    ({"cmdline": None, "unknown": "of Kata 9"}, "of Kata 9")])
def test_what_qemu_makes_of_it_is_not_always_known(change: dict[str, Any], why: str) -> None:
    with pytest.raises(NotComputed, match=why):
        list(handed_kernels(BOOTS[0].guest(**change), make_firmware.linux(), 5000))


@pytest.mark.parametrize("kernel", [
    make_firmware.kernel(), make_firmware.linux()[:0x230], make_firmware.linux(header=bytes(32)),
    make_firmware.linux().replace(b"HdrS\x0f", b"HdrS\x0b")])
def test_a_kernel_that_qemu_treats_otherwise(kernel: bytes) -> None:
    with pytest.raises(NotComputed, match=r"protocol 2\.12"):
        list(handed_kernels(BOOTS[0].guest(), kernel, 5000))


def test_an_initrd_without_room() -> None:
    with pytest.raises(NotComputed, match="does not fit"):
        handed_initrd(BOOTS[0], 3 << 30)
    old = make_firmware.linux().replace(bytes((0x7f,)), b"\0")
    limited = bytearray(old)
    limited[0x22c:0x230] = (0x37ffffff).to_bytes(4, "little")
    _, filled_in = handed_kernels(BOOTS[0].guest(), bytes(limited), 5000)
    assert int.from_bytes(filled_in[0x218:0x21c], "little") == (0x37ffffff - 5000) & ~0xfff
