"""Reports of SEV-SNP: genuine ones are proven, and nothing that was changed is."""

from __future__ import annotations

import json
import struct
import uuid
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit.attest.cases import (
    FLIPS,
    NOW,
    appraise,
    flipped,
    index,
    is_accepted,
    needs_vectors,
    request,
    shipped_roots,
    unproven,
    vector,
)
from tests.unit.attest.make_certificates import revoke
from tests.unit.attest.make_snp import Changes, authorities, make
from vmtool.attest.certificates import common_name, load_certificates
from vmtool.attest.request import Request
from vmtool.attest.snp.chain import find_chain, verify_snp_chain
from vmtool.attest.snp.evidence_json import kind_of

MILAN = ("snp/milan-vcek-report.bin", "snp/milan-vcek.der")
REPORT_DATA = bytes.fromhex("ec6c52d7533cc2c4f45be7849cf112ab82b2009fe7bd43e71ed08c14400ad7e2")
MEASUREMENT = "a1f3930413247bb38cfc171579ea3c12d5fe4901f0c792f63fd75d98f1ef827c23500644e0e692e6be917f9050d3d38c"
CHAINLESS = [f"snp.{name}" for name in ("chain", "dates", "revocation", "generation", "key-binding", "signature", "tcb",
                                        "tcb-floor")]
JSON = "trustee/snp-evidence-json.json"


def milan(**more: Any) -> Request:
    return request(vector(MILAN[1]), **more)


@needs_vectors
@pytest.mark.parametrize("entry", index("sev-snp"), ids=lambda entry: entry["id"])
def test_each_public_report_comes_out_as_the_index_says(entry: dict[str, Any]) -> None:
    asked = request(vector(entry["vek"]), vector(entry["ca"]), at=entry.get("at", NOW),
                    snp={"max_vmpl": entry.get("max_vmpl", 0)})
    assert is_accepted(vector(entry["report"]), asked) == (entry["expect"] == "accept")


@needs_vectors
@pytest.mark.parametrize(("identity", "expected"), [
    ("snp-debug", ["snp.debug"]),
    ("snp-cert-of-another-chip", ["snp.key-binding", "snp.signature"]),
    ("snp-wrong-family", CHAINLESS),
    ("snp-bad-vcek-legacy", ["snp.chain", "snp.key-binding", "snp.signature", "snp.tcb"]),
])
def test_what_is_refused_is_refused_for_its_reason(identity: str, expected: list[str]) -> None:
    entry = next(entry for entry in index("sev-snp") if entry["id"] == identity)
    asked = request(vector(entry["vek"]), vector(entry["ca"]))
    assert unproven(vector(entry["report"]), asked) == expected


@needs_vectors
def test_the_public_chain_of_turin() -> None:
    [entry] = index("sev-snp-chain")
    asked = request(vector(entry["vek"]), vector(entry["ca"]))
    chain = find_chain(asked.collateral.certificates, shipped_roots().certificates("amd-"))
    assert verify_snp_chain(chain) == "SEV-VCEK <- SEV-Turin <- ARK-Turin"


@needs_vectors
def test_each_authority_that_is_presented_must_be_genuine() -> None:
    """Also one that this chain does not need, as the one of VLEKs."""
    text = vector("snp/milan_ask_ark_asvk.pem")
    assert is_accepted(vector(MILAN[0]), milan_with(text)) and is_accepted(vector(MILAN[0]), milan_with(
        text + vector("snp/genoa_ask_ark_asvk.pem")))
    assert [place for place, changed in flipped(text, range(0, len(text), 97)) if is_accepted(
        vector(MILAN[0]), milan_with(changed)) and text[place] != ord("\n")] == []
    for more in (b"\0", b"x", text[:40]):
        assert not is_accepted(vector(MILAN[0]), milan_with(text + more))


def milan_with(authorities: bytes) -> Request:
    return request(vector(MILAN[1]), authorities)


@needs_vectors
def test_without_the_keys_certificate_nothing_is_proven() -> None:
    assert "snp.signature" in unproven(vector(MILAN[0]), request())


@needs_vectors
def test_the_roots_that_are_named_take_the_place_of_vmtools_own() -> None:
    roots = authorities()[2]
    assert "snp.chain" in unproven(vector(MILAN[0]), milan(roots=roots))


@needs_vectors
@FLIPS
def test_no_byte_of_a_report_can_be_changed(mask: int, step: int) -> None:
    data, asked = vector(MILAN[0]), milan()
    assert is_accepted(data, asked)
    assert [place for place, changed in flipped(data, range(0, len(data), step), mask)
            if is_accepted(changed, asked)] == []


@needs_vectors
@FLIPS
def test_no_byte_of_a_certificate_can_be_changed(mask: int, step: int) -> None:
    data, vcek = vector(MILAN[0]), vector(MILAN[1])
    assert [place for place, changed in flipped(vcek, range(0, len(vcek), step), mask)
            if is_accepted(data, request(changed))] == []


@needs_vectors
@pytest.mark.parametrize("size", [0, 1, 4, 0x2a0, 0x330, 1183])
def test_a_report_that_is_cut_or_goes_on(size: int) -> None:
    data = vector(MILAN[0])
    assert unproven(data[:size], milan())
    assert unproven(data + bytes(1184 - size), milan())
    assert unproven(vector(MILAN[0]), request(vector(MILAN[1])[:size] or b"-"))


@needs_vectors
@pytest.mark.parametrize(("nonce", "reference", "wrong"), [
    (REPORT_DATA, {}, []), (REPORT_DATA + bytes(32), {}, []),
    (REPORT_DATA[:-1], {}, ["snp.freshness"]), (bytes(64), {}, ["snp.freshness"]),
    (None, {"measurement": MEASUREMENT}, []), (None, {"measurement": ["00" * 48, MEASUREMENT]}, []),
    (None, {"measurement": "00" * 48}, ["snp.measurement"]), (None, {"measurement": MEASUREMENT[2:]},
                                                              ["snp.measurement"]),
    (None, {"host_data": "00" * 32}, []), (None, {"host_data": "01"}, ["snp.host-data"]),
    (None, {"min_tcb": {"bootloader": 3, "snp": 8, "microcode": 115}}, []),
    (None, {"min_tcb": {"microcode": 116}}, ["snp.tcb-floor"]), (None, {"min_tcb": {"fmc": 0}}, ["snp.tcb-floor"]),
    (None, {"allow_smt": False}, ["snp.debug"]), (None, {"product": "Genoa"}, ["snp.generation"]),
    (None, {"product": "Milan"}, []),
])
def test_what_is_expected_is_compared(nonce: bytes | None, reference: dict[str, Any], wrong: list[str]) -> None:
    assert unproven(vector(MILAN[0]), milan(nonce=nonce, snp=reference)) == wrong


@needs_vectors
def test_what_nothing_is_expected_of_is_not_called_proven() -> None:
    [appraisal] = appraise(vector(MILAN[0]), milan())
    assert {claim.id for claim in appraisal.claims if claim.verdict == "not-checked"} == appraisal.optional == {
        f"snp.{name}" for name in ("revocation", "tcb-floor", "freshness", "measurement", "host-data")}


@needs_vectors
@pytest.mark.parametrize("at", ["2023-01-24T00:00:00Z", "2031-01-01T00:00:00Z"])
def test_a_certificate_of_another_time(at: str) -> None:
    assert unproven(vector(MILAN[0]), milan(at=at)) == ["snp.dates"]


def made(changes: Changes, *collateral: bytes, **more: Any) -> list[str]:
    """What is unproven of a report that was made here."""
    report, vcek = make(changes)
    return unproven(report, request(vcek, *collateral, roots=authorities()[2], **more))


@pytest.mark.parametrize(("changes", "wrong"), [
    (Changes(), []),
    (Changes(report=((0, b"\6"),)), ["snp.format"]), (Changes(report=((0, b"\1"),)), ["snp.format"]),
    (Changes(report=((8, b"\0\0\0"),)), ["snp.debug"]), (Changes(report=((10, b"\x0b"),)), ["snp.debug"]),
    (Changes(report=((10, b"\x07"),)), ["snp.debug"]), (Changes(report=((15, b"\x80"),)), ["snp.debug"]),
    (Changes(report=((0x30, b"\1"),)), ["snp.vmpl"]), (Changes(report=((0x33, b"\1"),)), ["snp.vmpl"]),
    (Changes(report=((0x34, b"\2"),)), ["snp.signature"]), (Changes(report=((0x48, b"\4"),)), ["snp.key-binding"]),
    (Changes(report=((0x48, b"\2"),)), ["snp.key-binding"]), (Changes(report=((0x48, b"\x1c"),)), ["snp.key-binding"]),
    (Changes(report=((0x180, b"\2"),)), ["snp.tcb"]), (Changes(report=((0x188, b"\x19\x01"),)), ["snp.generation"]),
    (Changes(report=((0x1b0, b"\1"),)), ["snp.key-binding"]), (Changes(chip=bytes(8)), ["snp.key-binding"]),
    (Changes(chip=bytes(64)), ["snp.key-binding"]), (Changes(chip=b"\4\x08" + bytes(8)), ["snp.key-binding"]),
    (Changes(tcb=((8, 6),)), ["snp.tcb"]), (Changes(product=b"\x16\x05Genoa"), ["snp.key-binding"]),
    (Changes(authority=True), ["snp.chain"]), (Changes(curve=ec.SECP256R1()), ["snp.signature"]),
    (Changes(name="SEV-VLEK"), ["snp.key-binding"]),
])
def test_each_field_of_a_report_and_its_certificate_counts(changes: Changes, wrong: list[str]) -> None:
    assert made(changes) == wrong


@pytest.mark.parametrize(("launched", "wrong"), [
    (bytes((1, 2, 3, 4, 0, 0, 0, 5)), []), (bytes((1, 2, 3, 4, 0, 0, 0, 4)), ["snp.tcb-floor"]),
    (bytes(8), ["snp.tcb-floor"]),
    (bytes((9, 9, 9, 9, 0, 0, 0, 9)), [])])
def test_the_floor_is_also_of_the_firmware_that_launched_the_guest(launched: bytes, wrong: list[str]) -> None:
    """A host launches a guest by firmware with a hole, and updates it before the guest reports."""
    changes = Changes(report=((0x1f0, launched),))
    assert made(changes, snp={"min_tcb": {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 5}}) == wrong
    assert made(changes) == [], "without a floor nothing is compared"


def test_revocation_and_its_lists() -> None:
    ark, ask, _ = authorities()
    assert made(Changes(), revoke(ark)) == []
    assert made(Changes(), revoke(ark, 77)) == ["snp.revocation"]
    assert made(Changes(), revoke(ark, last=NOW - timedelta(days=1))) == ["snp.revocation"]
    assert made(Changes(), revoke(ark, signer=ask)) == ["snp.revocation"]


def test_certificates_in_the_table_that_a_host_hands_over() -> None:
    report, vcek = make()
    assert unproven(report, request(table(vcek), roots=authorities()[2])) == []
    for damaged in (table(vcek)[:40], table(vcek)[:-1], table(vcek, end=False)[:24] * 20, table(vcek, size=1 << 31)):
        assert unproven(report, request(damaged, roots=authorities()[2]))


def table(vcek: bytes, *, end: bool = True, size: int | None = None) -> bytes:
    entry = uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes
    head = entry + struct.pack("<II", 48, len(vcek) if size is None else size)
    return head + bytes(24 if end else 0) + vcek


@needs_vectors
def test_the_agents_json() -> None:
    assert is_accepted(vector(JSON), request())


ODD: tuple[Any, ...] = (None, "", "7", True, -1, 1 << 70, 1.5, [], [256], [True], ["1"], {}, {"a": 1}, [[0]])


@needs_vectors
def test_each_field_of_the_agents_json_has_its_type() -> None:
    """Whatever takes a field's place: no crash, and no acceptance but of the same bytes."""
    document, asked = json.loads(vector(JSON)), request()
    report = document["attestation_report"]
    for name in report:
        for odd in (value for value in ODD if not same(value, report[name])):
            assert not is_accepted(encode(document | {"attestation_report": report | {name: odd}}), asked), (name, odd)
        assert not is_accepted(encode(document | {"attestation_report": {
            key: value for key, value in report.items() if key != name}}), asked)
    assert not is_accepted(encode(document | {"attestation_report": report | {"more": 1}}), asked)
    assert not is_accepted(encode(document | {"more": 1}), asked)
    [certificate] = document["cert_chain"]
    for odd in (*ODD, "vcek", "OTHER", "\0"):
        assert not is_accepted(encode(document | {"cert_chain": [certificate | {"cert_type": odd}]}), asked), odd
    for odd in ODD[1:]:
        assert odd == [] or not is_accepted(encode(document | {"cert_chain": odd}), asked), odd
    twice = encode(document | {"cert_chain": [certificate, certificate]})
    assert unproven(twice, asked) == ["snp.format"], "as in a file of certificates"


@needs_vectors
def test_a_certificate_is_what_it_is_called() -> None:
    document, asked = json.loads(vector(JSON)), request()
    [vcek] = document["cert_chain"]
    assert vcek["cert_type"] == "VCEK"
    authorities = load_certificates(vector("snp/genoa_ask_ark_asvk.pem"))
    called = {common_name(each): kind_of(common_name(each)) for each in authorities}
    assert called == {"SEV-Genoa": "ASK", "ARK-Genoa": "ARK", "SEV-VLEK-Genoa": "ASK"}
    more = [{"cert_type": called[common_name(each)], "data": list(each.public_bytes(Encoding.DER))}
            for each in authorities]
    assert is_accepted(encode(document | {"cert_chain": [vcek, *more]}), asked)
    for kind in ("ASK", "ARK", "VLEK"):
        assert not is_accepted(encode(document | {"cert_chain": [vcek | {"cert_type": kind}]}), asked), kind
    for item in more:
        for kind in {"ASK", "ARK", "VCEK", "VLEK"} - {item["cert_type"]}:
            assert not is_accepted(encode(document | {"cert_chain": [vcek, item | {"cert_type": kind}]}), asked)


def same(odd: Any, value: Any) -> bool:
    return type(odd) is type(value) and odd == value


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


@needs_vectors
@pytest.mark.parametrize("text", [
    b"{", b"[" * 100_000, b"null", b"[]", b'{"attestation_report": NaN}', b'{"attestation_report": 1' + b"0" * 9999,
    b"\xff{}", b"", b"hello", b"0" * 2368,
])
def test_text_that_is_no_evidence(text: bytes) -> None:
    assert unproven(text, request())


@needs_vectors
def test_a_key_that_occurs_twice_is_refused() -> None:
    text = vector(JSON)
    assert text.startswith(b"{") and is_accepted(text, request())
    assert unproven(b'{"cert_chain": [],' + text[1:], request()) == ["evidence.format"]
