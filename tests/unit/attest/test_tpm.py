"""Quotes of a TPM: good ones are proven, and nothing that was changed is."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fakes.rsa_keys import rsa_key
from tests.unit.attest.cases import FLIPS, NOW, flipped, is_accepted, request, unproven
from tests.unit.attest.make_certificates import Form, issue, revoke
from tests.unit.attest.make_tpm import ATTRIBUTES, EVENTS, KEY, NONCE, Tpm, log, name, public, registers
from vmtool.attest.recognise import appraise_file
from vmtool.attest.request import Request, Roots
from vmtool.attest.tpm.challenge import AK_USAGE, EK_USAGE

ROOT = issue("TPM Root")
ROOTS = Roots({"tpm-maker.pem": ROOT.pem})
RSA = rsa_key(2048, 3)
OTHER = ec.generate_private_key(ec.SECP256R1())
GOOD = {"sha256": {4: registers()[4].hex(), 8: registers()[8].hex()}}
CHANGED = (*EVENTS[:3], (8, 13, b"another command line"))


def enrolled(*collateral: bytes, key: Any = KEY, pcrs: Any = None, **more: Any) -> Request:
    return request(*collateral, **{"nonce": NONCE, "tpm": {"keys": [name(key)], "pcrs": pcrs or {}}} | more)


@pytest.mark.parametrize(("tpm", "wrong"), [
    (Tpm(), []), (Tpm(values={}), []), (Tpm(log=None), []),
    (Tpm(nonce=b"another nonce"), ["freshness"]), (Tpm(nonce=NONCE + b"\0"), ["freshness"]),
    (Tpm(magic=b"\xffTCG\x80\x17"), ["format"]), (Tpm(magic=b"\0TCG\x80\x18"), ["format"]),
    (Tpm(bank=b"\0\4"), ["format"]), (Tpm(scheme=0x14), ["signature", "registers", "event-log", "measurement"]),
    (Tpm(values={**registers(), 4: bytes(32)}), ["registers", "event-log", "measurement"]),
    (Tpm(quoted={**registers(), 4: bytes(32)}), ["registers", "event-log", "measurement"]),
    (Tpm(values={}, log=None), ["registers", "measurement"]), (Tpm(values={4: registers()[4]}),
                                                                ["registers", "event-log", "measurement"]),
    (Tpm(unquoted={1: bytes(32)}), ["registers", "event-log", "measurement"]),
    (Tpm(selected=(0, 4), values={0: registers()[0] + registers()[4][:9], 4: registers()[4][9:]}, log=None),
     ["registers", "measurement"]),
    (Tpm(log=log(EVENTS[:2])), ["event-log"]), (Tpm(log=log((*EVENTS, EVENTS[1]))), ["event-log"]),
    (Tpm(log=log(locality=3)), ["event-log"]),
    (Tpm(log=log((EVENTS[0], EVENTS[2], EVENTS[1], EVENTS[3]))), ["event-log"]),
    (Tpm(selected=(0, 4)), ["measurement"]), (Tpm(selected=(1, 2)), ["measurement"]),
    (Tpm(values=registers(CHANGED), quoted=registers(CHANGED), log=log(CHANGED)), ["measurement"]),
    (Tpm(key=OTHER), ["key-binding"]), (Tpm(attributes=ATTRIBUTES & ~(1 << 16)), ["key-binding"]),
    (Tpm(attributes=ATTRIBUTES | 1 << 17), ["key-binding"]), (Tpm(attributes=ATTRIBUTES & ~2), ["key-binding"]),
    (Tpm(more={"more": 1}), ["format"]), (Tpm(more={"pcrs": {"sha1": {}}}), ["format"]),
    (Tpm(more={"pcrs": {"sha256": {"24": "00"}}}), ["format"]), (Tpm(more={"pcrs": []}), ["format"]),
    (Tpm(more={"quote": 7}), ["format"]), (Tpm(more={"signature": None}), ["format"]),
], ids=lambda value: str(value)[:0] or None)
def test_each_part_counts(tpm: Tpm, wrong: list[str]) -> None:
    assert unproven(tpm.json(), enrolled(pcrs=GOOD)) == [f"tpm.{part}" for part in wrong]


@pytest.mark.parametrize("tpm", [Tpm(key=RSA), Tpm(key=RSA, scheme=0x14)], ids=["pss", "pkcs1"])
def test_keys_of_rsa(tpm: Tpm) -> None:
    assert unproven(tpm.json(), enrolled(key=RSA)) == []
    assert "tpm.signature" in unproven(tpm.json(signature=Tpm(key=RSA, nonce=b"x" * 20).signature()), enrolled(key=RSA))


def test_where_keys_are_enrolled_no_other_is_taken_whoever_vouches_for_it() -> None:
    leaf = issue("AK", ROOT, Form(authority=False, serial=12), key=OTHER)
    tpm = Tpm(key=OTHER, certificate=leaf.pem)
    assert unproven(tpm.json(), request(roots=ROOTS, nonce=NONCE)) == []
    assert unproven(tpm.json(), enrolled(roots=ROOTS)) == ["tpm.key-binding"]


def test_of_an_enrolled_key_no_chain_says_anything() -> None:
    """Nobody has verified it, so it has no dates, and is not asked for whether it was revoked."""
    stranger = issue("AK", issue("TPM Root"), Form(authority=False), key=KEY)
    tpm = Tpm(certificate=stranger.pem)
    assert unproven(tpm.json(), enrolled(revoke(issue("Another"), 1), roots=ROOTS)) == []
    assert not {"tpm.dates", "tpm.revocation"} & {
        claim.id for each in appraise_file(tpm.json(), enrolled(roots=ROOTS)) for claim in each.claims}


def test_a_key_with_a_certificate_of_a_maker() -> None:
    leaf = issue("AK", ROOT, Form(authority=False, serial=12), key=KEY)
    tpm = Tpm(certificate=leaf.pem)
    assert unproven(tpm.json(), request(roots=ROOTS, nonce=NONCE)) == []
    assert unproven(tpm.json(), request(nonce=NONCE))[0] == "tpm.key-binding"
    assert unproven(tpm.json(), request(revoke(ROOT, 12), roots=ROOTS)) == ["tpm.revocation"]
    assert unproven(tpm.json(), request(roots=ROOTS, at="2028-01-01T00:00:00Z")) == ["tpm.dates"]
    for other in (issue("AK", ROOT, Form(authority=False), key=OTHER), issue("AK", ROOT, key=KEY),
                  issue("AK", issue("TPM Root"), Form(authority=False), key=KEY)):
        assert unproven(Tpm(certificate=other.pem).json(), request(roots=ROOTS)) == ["tpm.key-binding"]
    assert unproven(Tpm().json(), request(roots=ROOTS)) == ["tpm.key-binding"], "neither certificate nor enrolled"


NO_SIGNATURES = x509.KeyUsage(**dict.fromkeys((
    "digital_signature", "content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
    "encipher_only", "decipher_only"), False), key_encipherment=True)


@pytest.mark.parametrize(("usages", "wrong"), [
    ([x509.ExtendedKeyUsage([AK_USAGE])], []), ([x509.ExtendedKeyUsage([EK_USAGE, AK_USAGE])], []),
    ([x509.ExtendedKeyUsage([EK_USAGE])], ["tpm.key-binding"]),
    ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])], ["tpm.key-binding"]),
    ([NO_SIGNATURES], ["tpm.key-binding"]), ([NO_SIGNATURES, x509.ExtendedKeyUsage([AK_USAGE])], ["tpm.key-binding"]),
])
def test_a_makers_certificate_of_another_use_makes_no_attestation_key(usages: list[Any], wrong: list[str]) -> None:
    """Nobody signs what the public area says of a key: a key of software could be called a restricted one."""
    leaf = issue("key", ROOT, Form(authority=False, usages=usages), key=KEY)
    assert unproven(Tpm(certificate=leaf.pem).json(), request(roots=ROOTS, nonce=NONCE)) == wrong


@FLIPS
def test_no_byte_can_be_changed(mask: int, step: int) -> None:
    tpm, asked = Tpm(), enrolled()
    assert is_accepted(tpm.json(), asked)
    for part, data in (("quote", tpm.quote()), ("signature", tpm.signature()), ("ak_public", public(KEY))):
        assert [place for place, changed in flipped(data, range(0, len(data), 1 if step == 1 else step // 5), mask)
                if is_accepted(tpm.json(**{part: changed}), asked)] == []
        for changed in (data[:-1], data + b"\0", b"", data[:9]):
            assert not is_accepted(tpm.json(**{part: changed}), asked)


@pytest.mark.parametrize("damaged", [
    log()[:-1], log() + b"\0", log()[:40], b"\0" * 32, log().replace(b"Event03", b"Event02"),
    log().replace(b"\4\0\x14\0\x0b\0\x20\0", b"\4\0\x14\0\x0b\0\xff\0"), log((*EVENTS, (24, 8, b"x"))),
    log()[:-20] + b"\xff" * 20,
])
def test_an_event_log_that_is_damaged(damaged: bytes) -> None:
    assert unproven(Tpm(log=damaged).json(), enrolled()) == ["tpm.event-log"]


def test_a_startup_locality_begins_register_0() -> None:
    assert NOW and unproven(Tpm(log=log(locality=0)).json(), enrolled()) == []


@pytest.mark.parametrize("before", [((0, 8, b"what never ran"),), ((0, 3, b"StartupLocality\0\0"),)])
def test_a_log_does_not_begin_register_0_again(before: tuple[tuple[int, int, bytes], ...]) -> None:
    """What stands before a second beginning would be in the log, and in no register."""
    again = (*before, (0, 3, b"StartupLocality\0\0"), *EVENTS)
    assert unproven(Tpm(log=log(again)).json(), enrolled()) == ["tpm.event-log"]
    elsewhere = ((4, 0x80000003, b"kernel"), (0, 3, b"StartupLocality\0\0"), EVENTS[0], *EVENTS[2:])
    assert unproven(Tpm(log=log(elsewhere)).json(), enrolled()) == [], "register 0 had not begun"
