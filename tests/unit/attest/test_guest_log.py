"""Logs of what was measured into the registers of a guest in TDX or virtCCA."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.unit.attest.cases import request, unproven
from tests.unit.attest.make_cca import NONCE, ROOTS, Made, ima
from tests.unit.attest.make_tpm import log
from vmtool.attest.appraisal import NotProven
from vmtool.attest.cca.ima_log import replay_ima
from vmtool.attest.tpm.guest_log import verify_guest_log

EVENTS = ((0, 8, b"the firmware itself"), (1, 8, b"variables"), (2, 0x80000003, b"kernel"), (3, 6, b"command line"),
          (3, 6, b"initrd"))
OWN = (4, 6, b"what a program measured")
SHA384 = ((12, "sha384"),)


def registers(events: tuple[tuple[int, int, bytes], ...] = EVENTS, name: str = "sha384") -> list[bytes]:
    """By hand: register n of a log is the guest's n - 1."""
    found = [bytes(hashlib.new(name).digest_size)] * 4
    for number, _, event in events:
        if number:
            found[number - 1] = hashlib.new(name, found[number - 1] + hashlib.new(name, event).digest()).digest()
    return found


def guest_log(*more: tuple[int, int, bytes], first: int = 1) -> bytes:
    return log((*EVENTS, *more), hashed=SHA384, first=first)


@pytest.mark.parametrize("data", [guest_log(), guest_log(first=0), guest_log() + b"\xff" * 5000,
                                  guest_log() + bytes(5000), guest_log() + b"\0"])
def test_it_leads_to_the_registers_also_in_an_area_of_its_own(data: bytes) -> None:
    shown = registers()
    assert verify_guest_log(data, "sha384", shown, "RTMR") == "leads to RTMR0 to RTMR2"
    # Programs extend the last one, and need not log it.
    shown[3] = b"\7" * 48
    assert verify_guest_log(data, "sha384", shown, "RTMR") == "leads to RTMR0 to RTMR2"


def test_what_programs_have_logged_is_compared() -> None:
    shown = registers((*EVENTS, OWN))
    assert verify_guest_log(guest_log(OWN), "sha384", shown, "RTMR") == "leads to RTMR0 to RTMR3"
    with pytest.raises(NotProven, match="does not lead to RTMR3"):
        verify_guest_log(guest_log(OWN), "sha384", registers(), "RTMR")


@pytest.mark.parametrize(("data", "bank", "reason"), [
    (log(EVENTS[:-1], hashed=SHA384), "sha384", "RTMR2"), (log(EVENTS[::-1], hashed=SHA384), "sha384", "RTMR2"),
    (log((*EVENTS[1:], *EVENTS[1:2]), hashed=SHA384), "sha384", "RTMR0"), (log((), hashed=SHA384), "sha384", "RTMR0"),
    (guest_log((5, 6, b"x")), "sha384", "register 5"), (guest_log(first=2), "sha384", "no event log"),
    (guest_log() + bytes(20) + b"\1", "sha384", "0 digests"),
    (guest_log() + b"\xff" * 20 + b"\0", "sha384", "digests"),
    (guest_log()[:-1], "sha384", "missing"), (log(EVENTS), "sha384", "no digest of sha384"),
    (b"", "sha384", "missing")])
def test_another_log_is_refused(data: bytes, bank: str, reason: str) -> None:
    with pytest.raises(NotProven, match=reason):
        verify_guest_log(data, bank, registers(), "RTMR")


def of_ima(*files: bytes) -> bytes:
    found = bytes(32)
    for file in files:
        found = hashlib.sha256(found + hashlib.sha256(file).digest()).digest()
    return found


REMS = registers(EVENTS, "sha256")
BOTH = [*REMS[:3], of_ima(b"init", b"vllm")]
DIRECT = [of_ima(b"init"), *[bytes(32)] * 3]


@pytest.mark.parametrize(("rems", "logs", "wrong"), [
    (REMS, {"uefi_log": {"ccel_table": [1], "ccel_data": list(log(EVENTS) + b"\xff" * 99)}}, []),
    (REMS, {"event_log": list(log(EVENTS))}, []), (REMS[::-1], {"event_log": list(log(EVENTS))}, ["event-log"]),
    (BOTH, {"event_log": list(log(EVENTS)), "ima_log": list(ima(b"init", b"vllm"))}, []),
    (BOTH, {"event_log": list(log(EVENTS)), "ima_log": list(ima(b"init"))}, ["event-log"]),
    (BOTH, {"event_log": list(log(EVENTS[:2])), "ima_log": list(ima(b"init", b"vllm"))}, ["event-log"]),
    (BOTH, {"ima_log": list(ima(b"init", b"vllm"))}, []), (DIRECT, {"ima_log": list(ima(b"init", register=1))}, []),
    (DIRECT, {"ima_log": list(ima(b"init", register=10))}, []),
    (DIRECT, {"ima_log": list(ima(b"init", register=1) + ima(b"elsewhere", register=10))}, ["event-log"]),
    ([bytes(32)] * 4, {"ima_log": list(ima(b"init", register=11))}, ["event-log"]),
    (DIRECT, {"ima_log": list(ima(b"init", register=4))}, ["event-log"]),
    (DIRECT, {"ima_log": list(ima(b"other", register=1))}, ["event-log"])])
def test_logs_of_virtcca(rems: list[bytes], logs: dict[str, Any], wrong: list[str]) -> None:
    evidence = Made(realm={44239: rems}).virtcca(**logs)
    assert unproven(evidence, request(roots=ROOTS, nonce=NONCE)) == [f"virtcca.{name}" for name in wrong]


@pytest.mark.parametrize(("data", "reason"), [
    (ima(b"x")[:-1], "missing"), (b"", "not of one register"), (ima(b"x", name=b"ima"), "no SHA-256"),
    (ima(b"x", name=b"n" * 65), "no known name"), (ima(b"x") + b"\0", "missing")])
def test_an_ima_log_that_is_none(data: bytes, reason: str) -> None:
    with pytest.raises(NotProven, match=reason):
        replay_ima(data, "sha256")


def test_a_file_that_changed_while_it_was_measured_extends_by_ones() -> None:
    """As Linux does (ima_add_template_entry), so that nobody can take it for a file's digest."""
    assert replay_ima(ima(b"x", digest=bytes(20)), "sha256") == (
        3, hashlib.sha256(bytes(32) + b"\xff" * 32).digest())
