"""Each collector against a kernel that reacts, up to evidence that the verifiers take."""

from __future__ import annotations

import base64
import errno
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.snp_signer import signer
from tests.fakes.tee_guest import (
    FakeGuest,
    fails,
    quoting_service,
    sev_guest_device,
    tdx_guest_device,
    tsi_device,
)
from vmtool.serving.evidence import sev_guest, tdx_guest, tpm, tsi
from vmtool.serving.evidence.binding import NO_KEY, bind, report_data
from vmtool.serving.evidence.collect import collect, document
from vmtool.serving.evidence.guest import NotCollected

BOUND = bytes(range(32))


def report(data: bytes) -> bytes:
    """As long as a report of SEV-SNP, and it shows the data."""
    return data + bytes(1184 - len(data))


def token(data: bytes) -> bytes:
    return b"token" + data


@pytest.mark.parametrize(("provider", "kind"), [("sev_guest", "snp"), ("tdx_guest", "tdx"), ("arm_cca_guest", "cca")])
def test_configfs_gives_the_report_of_its_provider(provider: str, kind: str) -> None:
    guest = FakeGuest(provider, report, b"certificates")
    found = collect(BOUND, guest)
    assert found and (found.kind, found.evidence, found.certificates) == (kind, report(report_data(BOUND)),
                                                                          b"certificates")
    assert not guest.there, "the request stays"


def test_a_request_that_a_killed_process_left_is_replaced() -> None:
    guest = FakeGuest("tdx_guest", report, there=True)
    found = collect(BOUND, guest)
    assert found and found.certificates == b""


@pytest.mark.parametrize(("guest", "reason"), [
    (FakeGuest("other_guest"), "unknown"), (FakeGuest("sev_guest", interfering=True), "somebody else wrote"),
    (FakeGuest("sev_guest", lambda data: (_ for _ in ()).throw(fails(errno.EIO))), "Input/output error")])
def test_a_provider_that_gives_nothing_is_not_taken_for_no_tee(guest: FakeGuest, reason: str) -> None:
    with pytest.raises(NotCollected, match=reason):
        collect(BOUND, guest)
    assert not guest.there


def test_sev_guest_gives_the_report_and_the_hosts_certificates() -> None:
    found = collect(BOUND, FakeGuest(devices={sev_guest.DEVICE: sev_guest_device(report, b"table")}))
    assert found and (found.kind, found.evidence) == ("snp", report(report_data(BOUND)))
    assert found.certificates.rstrip(b"\0") == b"table"


def test_certificates_that_do_not_fit_are_left_out() -> None:
    found = collect(BOUND, FakeGuest(devices={sev_guest.DEVICE: sev_guest_device(report, b"x" * 20_000)}))
    assert found and (found.evidence, found.certificates) == (report(report_data(BOUND)), b"")


def firmware_fails(number: int, request: Any) -> bytes:
    request.firmware_error = 0x16
    raise fails(errno.EIO)


@pytest.mark.parametrize(("device", "reason"), [
    (sev_guest_device(lambda data: data), "a report of 64 bytes"), (firmware_fails, "firmware error 0x16"),
    (lambda number, request: (_ for _ in ()).throw(fails(errno.EACCES)), "Permission denied")])
def test_sev_guest_that_fails_says_why(device: Callable[[int, Any], bytes], reason: str) -> None:
    with pytest.raises(NotCollected, match=reason):
        collect(BOUND, FakeGuest(devices={sev_guest.DEVICE: device}))


def test_tdx_guest_lets_the_host_sign_its_report() -> None:
    guest = FakeGuest(devices={tdx_guest.DEVICE: tdx_guest_device}, host=quoting_service(token))
    found = collect(BOUND, guest)
    assert found and (found.kind, found.evidence) == ("tdx", token(report_data(BOUND)))
    guest.files[tdx_guest.SETTINGS] = b"# Intel's\nport = 4051\n"
    with pytest.raises(AssertionError):
        collect(BOUND, guest)


@pytest.mark.parametrize(("answer", "reason"), [
    (b"", "too short"), (tdx_guest.HEAD.pack(1, 0, 1, tdx_guest.HEAD.size, 0x12001, 0, 0), "error 0x12001"),
    (tdx_guest.HEAD.pack(1, 0, 1, tdx_guest.HEAD.size, 0, 0, 9), "no quote"),
    (tdx_guest.HEAD.pack(1, 0, 0, tdx_guest.HEAD.size, 0, 0, 0), "no quote")])
def test_an_odd_answer_of_the_quoting_service_is_no_quote(answer: bytes, reason: str) -> None:
    guest = FakeGuest(devices={tdx_guest.DEVICE: tdx_guest_device}, host=lambda port, message: answer)
    with pytest.raises(NotCollected, match=reason):
        collect(BOUND, guest)


def test_without_a_quoting_service_there_is_no_quote() -> None:
    with pytest.raises(NotCollected, match="No such device"):
        collect(BOUND, FakeGuest(devices={tdx_guest.DEVICE: tdx_guest_device}))


@pytest.mark.parametrize("to_read", [False, True])
def test_tsi_gives_token_and_certificate_by_both_kernels(to_read: bool) -> None:
    found = collect(BOUND, FakeGuest(devices={tsi.DEVICE: tsi_device(token, b"certificate", to_read=to_read)}))
    assert found and found.kind == "virtcca"
    parts = json.loads(found.evidence)
    assert bytes(parts["evidence"]) == token(report_data(BOUND))
    assert bytes(parts["dev_cert"]) == b"certificate"


def test_tsi_with_an_odd_size_gives_nothing() -> None:
    with pytest.raises(NotCollected, match="a size of 0 bytes"):
        collect(BOUND, FakeGuest(devices={tsi.DEVICE: tsi_device(lambda data: b"", b"c")}))


def test_a_kernel_with_configfs_and_no_provider_is_asked_by_its_device() -> None:
    guest = FakeGuest("", devices={tsi.DEVICE: tsi_device(token, b"c")})
    assert (found := collect(BOUND, guest)) and found.kind == "virtcca"


def test_where_one_interface_is_denied_another_of_the_tee_is_asked() -> None:
    denied: Any = lambda data: (_ for _ in ()).throw(fails(errno.EACCES))  # noqa: E731
    found = collect(BOUND, FakeGuest("sev_guest", denied, devices={sev_guest.DEVICE: sev_guest_device(report)}))
    assert found and found.evidence == report(report_data(BOUND))
    with pytest.raises(NotCollected, match="tsm/report: Permission denied"):
        collect(BOUND, FakeGuest("sev_guest", denied, devices={sev_guest.DEVICE: firmware_fails}))


def test_a_tee_is_preferred_to_a_tpm() -> None:
    guest = FakeGuest("sev_guest", report, tpm=lambda command: b"")
    assert (found := collect(BOUND, guest)) and found.kind == "snp"


@pytest.mark.parametrize("answer", [
    b"", b"\x80\1" + bytes(8), b"\x80\1\0\0\0\x0a\0\0\1\1", b"\x80\2\0\0\0\x0b\0\0\0\0x"])
def test_a_tpm_that_answers_oddly_gives_nothing(answer: bytes) -> None:
    with pytest.raises(NotCollected, match="/dev/tpmrm0"):
        collect(BOUND, FakeGuest(tpm=lambda command: answer))


def test_a_tpm_that_is_busy_is_asked_again_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpm, "PAUSE", 0.0)
    asked: list[bytes] = []

    def busy(command: bytes) -> bytes:
        asked.append(command)
        return b"\x80\1\0\0\0\x0a" + (0x922 if len(asked) < 9 else 0x101).to_bytes(4, "big")

    with pytest.raises(NotCollected, match="fails with 0x101"):
        collect(BOUND, FakeGuest(tpm=busy))
    assert (len(asked), len(set(asked))) == (9, 1)
    with pytest.raises(NotCollected, match="fails with 0x922"):
        collect(BOUND, FakeGuest(tpm=lambda command: b"\x80\1\0\0\0\x0a\0\0\x09\x22"))


def test_without_a_device_the_document_says_so_and_is_bound_all_the_same() -> None:
    made = document(bytes(32), b"k" * 32, lambda bound: collect(bound, FakeGuest()))
    assert made == {"version": 1, "nonce": "00" * 32, "key": b"k".hex() * 32, "kind": "none", "evidence": None,
                    "certificates": None, "note": made["note"]}
    assert str(made["note"]).startswith("unconfidential: ")
    assert document(bytes(32), NO_KEY, lambda bound: None)["key"] is None


def test_the_document_has_what_was_collected() -> None:
    guest = FakeGuest("sev_guest", signer().report, signer().table)
    made = document(BOUND, BOUND, lambda bound: collect(bound, guest))
    evidence = base64.b64decode(str(made["evidence"]))
    assert evidence[0x50:0x90] == report_data(bind(BOUND, BOUND))
    assert base64.b64decode(str(made["certificates"])) == signer().table
    assert made["note"] == ""
    assert replace(guest).generation == 1
