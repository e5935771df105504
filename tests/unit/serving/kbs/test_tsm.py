"""Evidence of the kernel's TSM reports in the protocol's form, on a kernel that reacts as configfs does."""

from __future__ import annotations

import json
import os

import pytest

from tests.fakes.tee_guest import FakeGuest
from tests.unit.attest.cases import is_accepted, needs_vectors, request, vector
from tests.unit.attest.make_snp import authorities, make
from vmtool.attest.snp.evidence_json import rebuild_report
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.snp_json import CERTIFICATES, snp_evidence
from vmtool.serving.kbs.tsm import TsmReports

GENUINE = ("snp/genoa-v3-report.bin", "snp/milan-vcek-report.bin", "snp/milan-vlek-report.bin",
           "snp/dstack-milan-v3-report.bin")


def table(*certificates: tuple[str, bytes]) -> bytes:
    """The host's table of certificates."""
    kinds = {kind: name for name, kind in CERTIFICATES.items()}
    start, head, body = 24 * (len(certificates) + 1), b"", b""
    for kind, data in certificates:
        head += kinds[kind] + (start + len(body)).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        body += data
    return head + bytes(24) + body


def test_a_report_with_its_certificate_is_verified() -> None:
    report, vcek = make()
    seen: list[bytes] = []

    def answer(data: bytes) -> bytes:
        seen.append(data)
        return report

    guest = FakeGuest("sev_guest", answer, table(("VCEK", vcek)))
    assert TsmReports(guest).tee() == "snp"
    evidence = TsmReports(guest).evidence(b"\x11" * 48)
    assert seen == [b"\x11" * 48 + bytes(16)]
    assert is_accepted(json.dumps(evidence).encode(), request(roots=authorities()[2], nonce=b"\x11" * 64))
    assert not guest.there, "the request is taken away"


def test_somebody_elses_request_in_between_is_noticed() -> None:
    with pytest.raises(KeyNotReleased, match="somebody else"):
        TsmReports(FakeGuest("sev_guest", lambda data: make()[0], interfering=True)).evidence(bytes(48))


@pytest.mark.parametrize(("provider", "tee", "blob", "form"), [
    ("tdx_guest", "tdx", b"quote", {"cc_eventlog": None, "quote": "cXVvdGU="}),
    ("arm_cca_guest", "cca", b"\1\2", {"token": [1, 2]})])
def test_other_tees(provider: str, tee: str, blob: bytes, form: object) -> None:
    found = TsmReports(FakeGuest(provider, lambda data: blob))
    assert found.tee() == tee and found.evidence(bytes(48)) == form


@pytest.mark.parametrize("provider", [None, "", "new_guest"])
def test_a_kernel_without_a_tee_has_none(provider: str | None) -> None:
    found = TsmReports(FakeGuest(provider))
    assert found.tee() == ""
    with pytest.raises(KeyNotReleased, match="evidence"):
        found.evidence(bytes(48))


@needs_vectors
@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_report_is_the_same_again(name: str) -> None:
    report = vector(name)
    assert rebuild_report(snp_evidence(report, b"")["attestation_report"]) == report


def test_a_report_of_turin_is_the_same_again() -> None:
    report = make()[0]
    evidence = snp_evidence(report, b"")
    assert rebuild_report(evidence["attestation_report"]) == report and evidence["cert_chain"] is None
    assert evidence["attestation_report"]["reported_tcb"]["fmc"] == 1


def test_a_table_of_the_host_is_read_with_bounds() -> None:
    report = make()[0]
    found = snp_evidence(report, table(("VCEK", b"v"), ("ASK", b"a")))["cert_chain"]
    assert [each["cert_type"] for each in found] == ["VCEK", "ASK"]
    outside = next(iter(CERTIFICATES)) + b"\xff" * 8
    for odd in (b"\1", os.urandom(400), outside * 40, outside):
        assert snp_evidence(report, odd)["cert_chain"] is None
    with pytest.raises(ValueError, match="1184"):
        snp_evidence(report[1:], b"")
