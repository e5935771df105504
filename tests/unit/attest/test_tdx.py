"""Quotes of TDX: genuine ones come out as they are, and nothing that was changed is proven."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit.attest import make_tpm
from tests.unit.attest.cases import FLIPS, flipped, index, is_accepted, needs_vectors, request, unproven, vector
from tests.unit.attest.make_certificates import issue, revoke
from vmtool.attest.certificates import load_certificates
from vmtool.attest.recognise import appraise_file
from vmtool.attest.request import Request, Roots
from vmtool.attest.tdx import claims
from vmtool.attest.tdx.quote import check_form
from vmtool.attest.tdx.verify import Verified, verify_quote

pytestmark = needs_vectors
SHA384 = ((12, "sha384"),)
QUOTE, COLLATERAL, AT = "tdx/quote-b0c06f.bin", "tdx/collateral-b0c06f-2025.json", "2025-06-20T00:00:00Z"
MRTD = "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
REPORT_DATA = bytes.fromhex("9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
                            "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20")


def good(**more: Any) -> Request:
    return request(vector(COLLATERAL), **{"at": AT} | more)


@pytest.mark.parametrize("entry", index("tdx"), ids=lambda entry: entry["id"])
def test_each_public_quote_comes_out_as_the_index_says(entry: dict[str, Any]) -> None:
    asked = request(vector(entry["collateral"]), at=entry["at"])
    assert is_accepted(vector(entry["quote"]), asked) == (entry["expect"] == "accept")


@FLIPS
def test_no_signed_byte_of_a_quote_can_be_changed(mask: int, step: int) -> None:
    """Only line breaks of the certificates' text may be changed without effect."""
    data, asked = vector(QUOTE), good()
    assert is_accepted(data, asked)
    places = range(0, len(data), step if step == 1 else 4 * step)
    without_effect = [place for place, changed in flipped(data, places, mask)
                      if is_accepted(changed, asked)]
    assert {data[place:place + 1] for place in without_effect} <= {b"\n"}


def test_a_quote_that_is_cut_or_goes_on() -> None:
    data, asked = vector(QUOTE), good()
    assert not any(is_accepted(data[:size], asked) for size in range(0, 4936, 61))
    assert unproven(data + b"\1", asked) == ["tdx.format"]
    assert is_accepted(data[:4936], asked), "what follows the signature data is padding"


@pytest.mark.parametrize(("place", "value"), [(0, b"\3"), (0, b"\5"), (2, b"\3"), (4, b"\0"), (632, b"\xff" * 4)])
def test_a_header_of_another_kind(place: int, value: bytes) -> None:
    data = vector(QUOTE)
    assert not is_accepted(data[:place] + value + data[place + len(value):], good())


@pytest.mark.parametrize("at", ["2025-06-18T00:00:00Z", "2025-07-20T00:00:00Z", "2024-01-01T00:00:00Z"])
def test_collateral_of_another_time(at: str) -> None:
    """It proves nothing, and contradicts nothing."""
    asked = good(at=at)
    assert "tdx.signature" in unproven(vector(QUOTE), asked)
    [verdict] = [claim.verdict for each in appraise_file(vector(QUOTE), asked) for claim in each.claims
                 if claim.id == "tdx.signature"]
    assert verdict == "not-checked"


def test_collateral_is_required_and_may_be_several_files() -> None:
    assert "tdx.signature" in unproven(vector(QUOTE), request(at=AT))
    assert is_accepted(vector(QUOTE), request(vector("tdx/collateral-90c06f-2026.json"), vector(COLLATERAL), at=AT))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain", "tcb_info",
                                  "tcb_info_signature", "qe_identity_issuer_chain", "qe_identity",
                                  "qe_identity_signature"])
def test_each_part_of_the_collateral_counts(name: str) -> None:
    values = json.loads(vector(COLLATERAL))
    foreign = json.loads(vector("tdx/collateral-50806f000000-2023.json"))[name]
    odd: list[Any] = [None, "", 7, [], {}, "00", values[name][:-8], values[name].replace("3", "4"), foreign]
    for value in odd:
        if value != values[name]:
            changed = json.dumps(values | {name: value}).encode()
            assert not is_accepted(vector(QUOTE), request(changed, at=AT)), value
    del values[name]
    assert not is_accepted(vector(QUOTE), request(json.dumps(values).encode(), at=AT))


def test_a_key_of_the_collateral_that_occurs_twice() -> None:
    text = vector(COLLATERAL)
    twice = b'{"tcb_info": "{}",' + text.lstrip()[1:]
    assert not is_accepted(vector(QUOTE), request(twice, at=AT))


@pytest.mark.parametrize(("more", "why"), [
    ({"more": ""}, "parts that nobody checks: more: take them out"),
    ({"tcbInfo": {}, "signature": ""}, "one answer of Intel's service"), ({"tcb_info": None}, "tcb_info is no text"),
    ({"pck_certificate_chain": ""}, ""), ({"pck_certificate_chain": 7}, "no text")])
def test_collateral_has_its_own_parts_and_no_others(more: dict[str, Any], why: str) -> None:
    """A part that nobody knows, nobody checks."""
    changed = json.dumps(json.loads(vector(COLLATERAL)) | more).encode()
    found = appraise_file(vector(QUOTE), request(changed, at=AT))
    assert any(claim.verdict == "failed" and why in claim.evidence for each in found for claim in each.claims), found


@pytest.mark.parametrize(("of", "accepted"), [("tdx/quote-b0c06f.bin", True), ("tdx/quote-v5-90c06f.bin", False)])
def test_collateral_with_the_chain_of_a_platforms_key_is_of_that_platform(of: str, accepted: bool) -> None:
    chain = check_form(vector(of)).certificates.decode()
    given = json.dumps(json.loads(vector(COLLATERAL)) | {"pck_certificate_chain": chain}).encode()
    assert is_accepted(vector(QUOTE), request(given, at=AT)) == accepted
    assert is_accepted(vector(QUOTE), request(given.replace(json.dumps(chain).encode(), b"null"), at=AT))


def test_of_several_files_of_collateral_the_newest_evaluation_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older one by which the platform was up to date helps nobody, whoever gave it along, in whatever place."""
    newer = evaluated(monkeypatch, 1, 1)
    for given in ((OLDER, newer), (newer, OLDER)):
        assert unproven(vector(QUOTE), request(*given, at=AT)) == ["tdx.tcb"]
    assert unproven(vector(QUOTE), request(OLDER, at=AT)) == []


def test_collateral_is_as_old_as_the_older_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are signed apart: beside a new one an old one helps nobody."""
    mixed = evaluated(monkeypatch, 1, -1)
    for given in ((OLDER, mixed), (mixed, OLDER)):
        assert unproven(vector(QUOTE), request(*given, at=AT)) == []
    number = verify_quote(vector(QUOTE), vector(COLLATERAL).decode(), good()).age[0]
    assert unproven(vector(QUOTE), request(mixed, at=AT, tdx={"min_evaluation": number, "tcb_status": [
        "UpToDate", "OutOfDate"]})) == ["tdx.tcb-floor"]


OLDER = vector(COLLATERAL)


def evaluated(monkeypatch: pytest.MonkeyPatch, tcb: int, qe: int) -> bytes:
    """A file of collateral of other evaluations, by which the platform's firmware is out of date."""
    genuine = verify_quote(vector(QUOTE), OLDER.decode(), good())

    def verify(data: bytes, text: str, asked: Request) -> Verified:
        if text == OLDER.decode():
            return genuine
        parts = (dict(part) | {"tcbEvaluationDataNumber": part["tcbEvaluationDataNumber"] + more}
                 for part, more in ((genuine.tcb_info, tcb), (genuine.qe_identity, qe)))
        info, identity = parts
        return replace(genuine, status="OutOfDate", tcb_info=info, qe_identity=identity)

    monkeypatch.setattr(claims, "verify_quote", verify)
    return OLDER + b" "


@pytest.mark.parametrize(("log", "verdict", "shown"), [
    (None, "not-checked", "no event log"), (b"any", "failed", "bytes are missing"),
    (make_tpm.log(hashed=SHA384), "failed", "register 8 of an event is unknown"),
    (make_tpm.log(((1, 8, b"another"),), hashed=SHA384, first=1), "failed",
     "does not lead to RTMR0, RTMR1, RTMR2")])
def test_an_event_log_beside_a_quote_must_lead_to_its_registers(log: bytes | None, verdict: str, shown: str) -> None:
    """The genuine quote's own log is not public."""
    text = None if log is None else base64.b64encode(log).decode()
    evidence = json.dumps({"quote": base64.b64encode(vector(QUOTE)).decode(), "cc_eventlog": text}).encode()
    assert is_accepted(evidence, good()) == (log is None)
    [claim] = [claim for each in appraise_file(evidence, good()) for claim in each.claims
               if claim.id == "tdx.event-log"]
    assert (claim.verdict, shown in claim.evidence) == (verdict, True), claim


def test_another_root_is_not_trusted() -> None:
    roots = Roots({"intel-sgx.pem": issue("Intel SGX Root CA").pem})
    assert "tdx.signature" in unproven(vector(QUOTE), good(roots=roots))
    assert "tdx.signature" in unproven(vector(QUOTE), good(roots=Roots({"amd-milan.pem": b""})))


@pytest.mark.parametrize(("nonce", "reference", "wrong"), [
    (REPORT_DATA, {}, []), (bytes(64), {}, ["tdx.freshness"]), (None, {"mrtd": MRTD}, []),
    (None, {"mrtd": "00" * 48}, ["tdx.measurement"]), (None, {"rtmr3": "00" * 48}, []),
    (None, {"rtmr0": "00" * 48}, ["tdx.rtmr0"]), (None, {"rtmr2": "00" * 48}, ["tdx.rtmr2"]),
    (None, {"mrconfigid": "00"}, []), (None, {"mrconfigid": "01"}, ["tdx.host-data"]),
    (None, {"mrowner": "01"}, ["tdx.owner"]), (None, {"mrseam": "00" * 48}, ["tdx.module"]),
    (None, {"tcb_status": ["OutOfDate"]}, ["tdx.tcb"]), (None, {"min_evaluation": 17}, []),
    (None, {"min_evaluation": 18}, ["tdx.tcb-floor"]),
])
def test_what_is_expected_is_compared(nonce: bytes | None, reference: dict[str, Any], wrong: list[str]) -> None:
    assert unproven(vector(QUOTE), good(nonce=nonce, tdx=reference)) == wrong


def test_the_agents_json() -> None:
    quote = base64.b64encode(vector(QUOTE)).decode()
    assert is_accepted(json.dumps({"quote": quote, "cc_eventlog": None}).encode(), good())
    odd: Any
    for odd in (None, "", 7, [1], {}, quote[:-1], "!" + quote, quote + "\n"):
        assert not is_accepted(json.dumps({"quote": odd}).encode(), good())
    for more in ({"more": 1}, {"cc_eventlog": 7}, {"cc_eventlog": ["x"]}, {"cc_eventlog": "?"}):
        assert not is_accepted(json.dumps({"quote": quote, **more}).encode(), good())
    assert not is_accepted(json.dumps({"quote": None, "cc_eventlog": quote}).encode(), good())


def test_a_list_beside_the_collateral_counts_too() -> None:
    """One of the issuer's name, which the issuer did not sign; one of another issuer says nothing."""
    pck = load_certificates(check_form(vector(QUOTE)).certificates)[0]
    builder = x509.CertificateRevocationListBuilder().issuer_name(pck.issuer).last_update(
        datetime(2025, 6, 19, tzinfo=UTC)).next_update(datetime(2025, 7, 19, tzinfo=UTC))
    forged = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)
    asked = request(vector(COLLATERAL), forged, at=AT)
    assert unproven(vector(QUOTE), asked) == ["tdx.revocation"]
    assert is_accepted(vector(QUOTE), request(vector(COLLATERAL), revoke(issue("other")), at=AT))
