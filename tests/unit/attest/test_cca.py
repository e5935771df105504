"""Tokens of CCA and virtCCA: genuine and made ones are proven, and nothing that was changed is."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.rsa_keys import rsa_key
from tests.unit.attest.cases import FLIPS, NOW, flipped, index, is_accepted, needs_vectors, request, unproven, vector
from tests.unit.attest.make_cca import (
    DEVICE,
    GUEST,
    MIDDLE,
    NONCE,
    REMS,
    ROOTS,
    Made,
    cbor,
    jwk,
    point,
    sign1,
    spki,
    tagged,
)
from tests.unit.attest.make_certificates import Form, issue, revoke
from vmtool.attest.request import Request, Roots

TOKEN, KEY = "cca/cca-token-01.cbor", "cca/cpak.json"
PLATFORM = ec.generate_private_key(ec.SECP384R1())
CCA = Roots({"cca-test.jwk": jwk(PLATFORM)})


def trusting(key: str, **more: Any) -> Request:
    return request(roots=Roots({"cca-key.json": vector(key)}), **more)


@needs_vectors
@pytest.mark.parametrize("entry", index("arm-cca"), ids=lambda entry: entry["id"])
def test_each_public_token_comes_out_as_the_index_says(entry: dict[str, Any]) -> None:
    assert is_accepted(vector(entry["token"]), trusting(entry["platform_key"])) == (entry["expect"] == "accept")


@needs_vectors
@pytest.mark.parametrize(("token", "other"), [(TOKEN, "cca/ta-02-ok.json"), ("cca/cca-token-02.cbor", KEY)])
def test_by_no_other_key(token: str, other: str) -> None:
    assert unproven(vector(token), trusting(other)) == ["cca.platform-signature"]


@needs_vectors
def test_what_is_refused_is_refused_for_its_reason() -> None:
    assert unproven(vector("cca/bug-33-repro.cbor"), trusting(KEY)) == ["cca.key-binding"]
    assert unproven(vector("cca/cca-token-02.cbor"), trusting(KEY)) == ["cca.platform-signature"]
    assert unproven(vector(TOKEN), request()) == ["cca.platform-signature"]


@needs_vectors
@FLIPS
def test_no_byte_of_a_token_can_be_changed(mask: int, step: int) -> None:
    data, asked = vector(TOKEN), trusting(KEY)
    assert is_accepted(data, asked)
    assert [place for place, changed in flipped(data, range(0, len(data), step), mask)
            if is_accepted(changed, asked)] == []


@needs_vectors
def test_a_token_that_is_cut_goes_on_or_is_made_of_two() -> None:
    data, asked = vector(TOKEN), trusting(KEY)
    assert not any(is_accepted(data[:size], asked) for size in range(0, len(data), 17))
    assert not is_accepted(data + b"\0", asked)
    for other in ("cca/cca-token-02.cbor", "cca/cca-token-draft-ffm-00.cbor"):
        assert not is_accepted(with_realm_of(data, vector(other)), asked)


def with_realm_of(data: bytes, other: bytes) -> bytes:
    from vmtool.attest.cbor import decode

    return tagged(399, cbor({**decode(data, (399,)), 44241: decode(other, (399,))[44241]}))


def test_the_agents_json_and_its_odd_values() -> None:
    token = Made(platform_key=PLATFORM).token()
    asked = request(roots=CCA, nonce=NONCE)
    assert unproven(json.dumps({"token": list(token)}).encode(), asked) == []
    odd: Any
    for odd in (None, "", token.hex(), [256], [True], [-1], {}, [[0]], [1.0], [*list(token), 0]):
        assert not is_accepted(json.dumps({"token": odd}).encode(), asked)
    assert not is_accepted(json.dumps({"token": list(token), "more": 1}).encode(), asked)


OTHER = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(("made", "wrong"), [
    (Made(platform_key=PLATFORM), []),
    (Made(platform_key=OTHER), ["cca.platform-signature"]),
    (Made(platform_key=PLATFORM, guest=OTHER), ["cca.signature"]),
    (Made(platform_key=PLATFORM, guest=OTHER, key_octets=point(OTHER)), []),
    (Made(platform_key=PLATFORM, platform={10: bytes(32)}), ["cca.key-binding"]),
    (Made(platform_key=PLATFORM, platform={2395: 0x4001}), ["cca.debug"]),
    (Made(platform_key=PLATFORM, platform={2395: 0x3100}), ["cca.debug"]),
    (Made(platform_key=PLATFORM, platform={265: "tag:arm.com,2030:cca_platform#9"}), ["cca.format"]),
    (Made(platform_key=PLATFORM, realm={265: "tag:other"}), ["cca.format"]),
    (Made(platform_key=PLATFORM, realm={10: bytes(64)}), ["cca.freshness"]),
    (Made(platform_key=PLATFORM, realm={44240: "md5"}), ["cca.format"]),
    (Made(platform_key=PLATFORM, realm={44240: "sha-512"}), ["cca.key-binding"]),
    (Made(platform_key=PLATFORM, realm={44239: [b"\2" * 32] * 3}), ["cca.format"]),
    (Made(platform_key=PLATFORM, realm={44238: "text"}), ["cca.format"]),
    (Made(platform_key=PLATFORM, realm={10: NONCE[:-1]}), ["cca.format"]),
    (Made(platform_key=PLATFORM, realm={99: 1}), ["cca.format"]),
    (Made(platform_key=PLATFORM, realm={44237: b"\4" + bytes(96)}), ["cca.format"]),
    (Made(platform_key=PLATFORM, platform={2399: []}), ["cca.format"]),
    (Made(platform_key=PLATFORM, platform=None), ["cca.format"]),
    (Made(platform_key=PLATFORM, options={"unprotected": b"\xa1\x04\x41\x00"}), ["cca.format"]),
    (Made(platform_key=PLATFORM, options={"unprotected": b"\x20"}), ["cca.format"]),
    (Made(platform_key=PLATFORM, options={"header": {1: -35, 2: [1]}}), ["cca.format"]),
    (Made(platform_key=PLATFORM, options={"header": {1: -7}}), ["cca.platform-signature", "cca.signature"]),
    (Made(platform_key=PLATFORM, options={"header": {1: 5}}), ["cca.format"]),
], ids=itertools.count())
def test_each_part_of_a_token_counts(made: Made, wrong: list[str]) -> None:
    assert unproven(made.token(), request(roots=CCA, nonce=NONCE)) == wrong


@pytest.mark.parametrize(("reference", "wrong"), [
    ({"rim": "01" * 32, "rem": [rem.hex() for rem in REMS], "personalization": "00", "implementation": "03" * 32,
      "software": ["05" * 32]}, []),
    ({"rim": "02" * 32}, ["cca.measurement"]),
    ({"rem": [rem.hex() for rem in REMS[:3]]}, ["cca.extended-measurements"]),
    ({"rem": ["02" * 32] * 4}, ["cca.extended-measurements"]),
    ({"personalization": "01"}, ["cca.host-data"]), ({"implementation": "04" * 32}, ["cca.platform"]),
    ({"software": ["06" * 32]}, ["cca.platform"]),
])
def test_what_is_expected_is_compared(reference: dict[str, Any], wrong: list[str]) -> None:
    assert unproven(Made(platform_key=PLATFORM).token(), request(roots=CCA, nonce=NONCE, cca=reference)) == wrong


@pytest.mark.parametrize("register", [1, 2])
def test_what_a_firmware_started_is_not_taken_for_the_firmware(register: int) -> None:
    """Any kernel that it starts has the same initial measurement."""
    rems = [b"\2" * 32 if number == register else bytes(32) for number in range(4)]
    made, token = Made(realm={44239: rems}), Made(platform_key=PLATFORM, realm={44239: rems}).token()
    rim, both = {"rim": "01" * 32}, {"rim": "01" * 32, "rem": [rem.hex() for rem in rems]}
    assert unproven(token, request(roots=CCA, cca=rim)) == ["cca.extended-measurements"]
    assert unproven(token, request(roots=CCA, cca=both)) == unproven(token, request(roots=CCA)) == []
    assert unproven(made.virtcca(), request(roots=ROOTS, virtcca=rim)) == ["virtcca.extended-measurements"]
    assert unproven(made.virtcca(), request(roots=ROOTS, virtcca=both)) == []


def test_a_key_that_is_bound_to_a_platform_is_for_no_other() -> None:
    anchor = {"instance-id": "01" + "04" * 32, "implementation-id": "03" * 32, "pkey": json.loads(jwk(PLATFORM))}
    token = Made(platform_key=PLATFORM).token()
    for changes, wrong in (({}, []), ({"instance-id": "02" * 33}, ["cca.platform-signature"]),
                           ({"implementation-id": "04" * 32}, ["cca.platform-signature"]),
                           ({"pkey": {**json.loads(jwk(PLATFORM)), "d": "AA"}}, ["cca.platform-signature"])):
        roots = Roots({"cca-anchors.json": json.dumps([anchor | changes]).encode()})
        assert unproven(token, request(roots=roots, nonce=NONCE)) == wrong


RSA = rsa_key(3072)
BY_RSA = issue("device", MIDDLE, Form(authority=False, serial=42), key=RSA)


@pytest.mark.parametrize(("evidence", "wrong"), [
    (Made().virtcca(), []),
    (Made(platform_key=RSA).virtcca(BY_RSA), []),
    (Made(key_octets=spki(GUEST)).virtcca(), []),
    (Made(guest=DEVICE.key, key_octets=spki(DEVICE.key), platform=None).virtcca(), []),
    (Made(guest=DEVICE.key, key_octets=point(DEVICE.key), platform=None).virtcca(), []),
    (Made(platform=None).virtcca(), ["virtcca.platform-signature"]),
    (Made(platform_key=OTHER).virtcca(), ["virtcca.platform-signature"]),
    (Made(platform_key=RSA).virtcca(), ["virtcca.platform-signature"]),
    (Made(guest=OTHER).virtcca(), ["virtcca.signature"]),
    (Made(platform={10: bytes(32)}).virtcca(), ["virtcca.key-binding"]),
    (Made(realm={10: bytes(64)}).virtcca(), ["virtcca.freshness"]),
    (Made().virtcca(issue("device", issue("Kunpeng CA"), Form(authority=False), key=DEVICE.key)), ["virtcca.chain"]),
    (Made().virtcca(issue("device", MIDDLE, key=DEVICE.key)), ["virtcca.chain"]),
    (Made().virtcca(issue("device", MIDDLE, Form(authority=False, last=NOW), key=DEVICE.key)), []),
    (Made().virtcca(ima_log=[1, 2], uefi_log={"ccel_table": [1], "ccel_data": [2]}), ["virtcca.event-log"]),
    (Made().virtcca(event_log=[1], uefi_log={"ccel_data": [2]}), ["virtcca.format"]),
    (Made().virtcca(uefi_log={"ccel_table": [2]}), ["virtcca.format"]),
    (Made().virtcca(ima_log=[]), ["virtcca.format"]), (Made().virtcca(event_log="x"), ["virtcca.format"]),
    (Made().virtcca(uefi_log={"more": [1]}), ["virtcca.format"]), (Made().virtcca(uefi_log={}), ["virtcca.format"]),
    (Made().virtcca(more=[1]), ["virtcca.format"]), (Made().virtcca(evidence="00"), ["virtcca.format"]),
    (Made().virtcca(dev_cert=None), ["virtcca.format"]), (Made().virtcca(dev_cert=[0]), ["virtcca.format"]),
], ids=lambda value: str(value)[:0] or None)
def test_evidence_of_virtcca(evidence: bytes, wrong: list[str]) -> None:
    assert unproven(evidence, request(roots=ROOTS, nonce=NONCE)) == wrong


def test_a_devices_certificate_of_strangers_or_revoked() -> None:
    evidence = Made().virtcca()
    assert "virtcca.chain" in unproven(evidence, request(nonce=NONCE))
    assert unproven(evidence, request(revoke(MIDDLE, 41), roots=ROOTS)) == ["virtcca.revocation"]
    assert unproven(evidence, request(revoke(MIDDLE, 4), roots=ROOTS)) == []
    assert unproven(evidence, request(roots=ROOTS, at="2027-06-01T00:00:00Z")) == ["virtcca.dates"]


def test_values_of_virtcca_are_a_section_of_their_own() -> None:
    assert unproven(Made().virtcca(), request(roots=ROOTS, virtcca={"rim": "02" * 32})) == ["virtcca.measurement"]
    assert unproven(Made().virtcca(), request(roots=ROOTS, virtcca={"rim": "01" * 32})) == []


# Without the platform's part.
ALONE = Made(guest=DEVICE.key, key_octets=spki(DEVICE.key), platform=None)


@pytest.mark.parametrize(("made", "reference", "wrong"), [
    (Made(), {"implementation": "03" * 32, "software": ["05" * 32]}, []),
    (Made(), {"implementation": "04" * 32}, ["virtcca.platform"]),
    (Made(), {"software": ["06" * 32]}, ["virtcca.platform"]),
    (Made(platform={2395: 0x4000}), {}, ["virtcca.debug"]), (Made(platform={2395: 0x30ff}), {}, []),
    (ALONE, {}, []), (ALONE, {"software": ["05" * 32]}, ["virtcca.platform"]),
])
def test_the_platform_of_virtcca_is_compared_as_that_of_cca(made: Made, reference: dict[str, Any],
                                                            wrong: list[str]) -> None:
    asked = request(roots=ROOTS, nonce=NONCE, virtcca={"rim": "01" * 32} | reference)
    assert unproven(made.virtcca(), asked) == wrong


@FLIPS
def test_no_byte_of_virtccas_token_can_be_changed(mask: int, step: int) -> None:
    token, device = Made().token(), list(DEVICE.der)
    asked = request(roots=ROOTS, nonce=NONCE)
    assert [place for place, changed in flipped(token, range(0, len(token), step), mask) if is_accepted(
        json.dumps({"evidence": list(changed), "dev_cert": device}).encode(), asked)] == []


def test_a_message_without_its_tag_is_refused() -> None:
    token = tagged(399, cbor({44241: sign1(cbor({10: NONCE}), GUEST)[1:]}))
    assert unproven(token, request(roots=CCA)) == ["cca.format"]
