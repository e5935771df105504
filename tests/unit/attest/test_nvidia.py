"""Reports of NVIDIA's devices and reference manifests: genuine and made ones are proven, and nothing changed is."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from signxml.algorithms import SignatureMethod

from tests.unit.attest.cases import FLIPS, NOW, flipped, index, is_accepted, needs_vectors, request, unproven, vector
from tests.unit.attest.make_certificates import Form, issue, revoke
from tests.unit.attest.make_nvidia import (
    DRIVER_RIM,
    GOLDEN,
    NONCE,
    OPAQUE,
    RIM_ROOT,
    ROOT,
    ROOTS,
    VBIOS,
    VBIOS_RIM,
    Device,
    resource,
    rim,
)
from vmtool.attest.recognise import recognise

# Of the group that the base point makes (FIPS 186-4, D.1.2).
P384_ORDER = 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973
H100, SWITCH = "nvidia/gpu-h100-evidence.json", "nvidia/nvswitch-ls10-evidence.json"
TEXT, CHAIN = "nvidia/hopperAttestationReport.txt", "nvidia/hopperCertChain.txt"
RIM = "nvidia/Driver_RIM_test_no_gpu.swidtag"
THEN = "2023-07-27T00:00:00Z"


@needs_vectors
@pytest.mark.parametrize("entry", index("nvidia"), ids=lambda entry: entry["id"])
def test_the_public_evidence(entry: dict[str, Any]) -> None:
    data = vector(entry["evidence"])
    nonce = bytes.fromhex(json.loads(data)[0]["nonce"])
    assert is_accepted(data, request(nonce=nonce))
    assert unproven(data, request(nonce=nonce[::-1])) == ["nvidia0.freshness"]
    assert is_accepted(json.dumps({"device_evidence_list": json.loads(data)}).encode(), request())


@needs_vectors
def test_the_public_report_in_hexadecimal_digits() -> None:
    assert is_accepted(vector(TEXT), request(vector(CHAIN)))
    assert unproven(vector(TEXT), request()) == [f"nvidia.{name}" for name in (
        "chain", "dates", "revocation", "key-binding", "signature")]
    manifest = request(vector(CHAIN), vector(RIM), at=THEN)
    assert unproven(vector(TEXT), manifest) == ["nvidia.measurement"], "it is of another driver"


@needs_vectors
@pytest.mark.parametrize("entry", index("rim"), ids=lambda entry: entry["id"])
def test_the_public_manifests(entry: dict[str, Any]) -> None:
    assert is_accepted(vector(entry["rim"]), request(at=THEN))
    assert not is_accepted(vector(entry["rim"]), request(at=NOW)), "its signer's certificate has expired"


@needs_vectors
@FLIPS
def test_no_byte_of_a_report_can_be_changed(mask: int, step: int) -> None:
    device = json.loads(vector(H100))[0]
    report, asked = base64.b64decode(device["evidence"]), request()
    assert [place for place, changed in flipped(report, range(0, len(report), step), mask) if is_accepted(
        json.dumps([device | {"evidence": changed.hex()}]).encode(), asked)] == []


@needs_vectors
def test_a_report_that_is_cut_goes_on_or_has_the_chain_of_another() -> None:
    device = json.loads(vector(H100))[0]
    report, other = base64.b64decode(device["evidence"]), json.loads(vector(SWITCH))[0]["certificate"]
    for changed in (report[:-1], report + b"\0", report[:37], report[:100], report[37:], b""):
        assert not is_accepted(json.dumps([device | {"evidence": changed.hex()}]).encode(), request())
    for chain in (other, base64.b64encode(vector(CHAIN)).decode()):
        assert not is_accepted(json.dumps([device | {"certificate": chain}]).encode(), request())


@needs_vectors
def test_no_byte_of_the_chain_can_be_changed() -> None:
    device = json.loads(vector(H100))[0]
    pem, asked = base64.b64decode(device["certificate"]), request()
    accepted = [place for place, changed in flipped(pem, range(0, len(pem), 23)) if is_accepted(
        json.dumps([device | {"certificate": base64.b64encode(changed).decode()}]).encode(), asked)]
    assert {pem[place:place + 1] for place in accepted} <= {b"\n"}


@needs_vectors
def test_what_is_said_beside_a_report_must_be_in_it() -> None:
    device = json.loads(vector(H100))[0]
    odd: tuple[Any, ...] = (None, 7, "x", "00", [], {}, True, [1], "590.13", "BLACKWELL", "LS10", "hopper")
    for name, value in ((name, value) for name in device for value in odd if name != "uuid"):
        optional = value is None and name not in ("arch", "evidence", "certificate")
        assert is_accepted(json.dumps([device | {name: value}]).encode(), request()) == optional, (name, value)
    assert not is_accepted(json.dumps([device | {"more": 1}]).encode(), request())
    assert not is_accepted(json.dumps([device, device]).encode(), request()), "one device is not two"
    assert not is_accepted(b"[]", request())
    assert is_accepted(json.dumps([device, json.loads(vector(SWITCH))[0]]).encode(), request())


NO_DICE = issue("GH100 test", ROOT, Form(authority=False))
OTHER_FIRMWARE = issue("GH100 test", ROOT, Form(authority=False, extensions=[("2.23.133.5.4.1", bytes(60))]))
STRANGER = issue("GH100 test", issue("NVIDIA Device Identity CA"), Form(authority=False))


def without(*kinds: int) -> tuple[tuple[int, bytes], ...]:
    return tuple((kind, value) for kind, value in OPAQUE.items() if kind not in kinds)


@pytest.mark.parametrize(("device", "wrong"), [
    (Device(), []), (Device(count=2), ["format"]), (Device(measurements=((1, b"\1" * 48),) * 2), ["format"]),
    (Device(measurements=((1, b"\1" * 48), (2, b"\2" * 48))), ["measurement"]),
    (Device(measurements=((1, b"\1" * 48), (2, b"\x07" * 48), (3, b"\3" * 48))), ["measurement"]),
    (Device(opaque=(*OPAQUE.items(), (3, b"600.2\0"))), ["format"]),
    (Device(opaque=(*without(3), (3, b"600.2\0"))), ["measurement"]),
    (Device(opaque=(*without(6), (6, bytes(8)))), ["measurement"]),
    (Device(opaque=without(20)), ["key-binding"]), (Device(opaque=(*without(20), (20, bytes(48)))), ["key-binding"]),
    (Device(issued=NO_DICE), ["key-binding"]), (Device(issued=OTHER_FIRMWARE), ["key-binding"]),
    (Device(issued=STRANGER), ["chain", "key-binding"]),
    (Device(more={"driver_version": "600.1", "vbios_version": VBIOS, "nonce": NONCE.hex()}), []),
    (Device(more={"driver_version": "600.2"}), ["format"]), (Device(more={"arch": "BLACKWELL"}), ["chain"]),
], ids=lambda value: str(value)[:0] or None)
def test_each_part_of_a_report_counts(device: Device, wrong: list[str]) -> None:
    asked = request(DRIVER_RIM, VBIOS_RIM, nonce=NONCE, roots=ROOTS)
    assert unproven(device.json(), asked) == [f"nvidia0.{name}" for name in wrong]


@pytest.mark.parametrize(("reference", "wrong"), [
    ({"driver": "600.1", "vbios": VBIOS, "protected_pcie": True}, []), ({"driver": ["600.0", "600.1"]}, []),
    ({"driver": "600.0"}, ["nvidia0.driver"]), ({"vbios": "1"}, ["nvidia0.vbios"]),
    ({"protected_pcie": False}, ["nvidia0.mode"]),
])
def test_what_is_expected_is_compared(reference: dict[str, Any], wrong: list[str]) -> None:
    assert unproven(Device().json(), request(roots=ROOTS, nvidia=reference)) == wrong


DOUBLE = rim("600.1", resource(0, GOLDEN[1]), resource(0, GOLDEN[1]))
OVERLAP = rim("600.1", resource(0, GOLDEN[1]), resource(1, GOLDEN[2]))
LATER = issue("RIM Signer", RIM_ROOT, Form(authority=False, last=NOW.replace(year=2025), first=NOW.replace(year=2024)))


@pytest.mark.parametrize("driver", [
    DOUBLE, OVERLAP, rim("600.0", resource(0, GOLDEN[1])), rim("600.1", resource(0, GOLDEN[1], active="maybe")),
    rim("600.1"), rim("600.1", resource(0)), rim("600.1", resource(0, b"\1" * 32)),
    rim("600.1", resource(-1, GOLDEN[1])),
    rim("600.1", resource(0, GOLDEN[2])), rim("600.1", resource(0, GOLDEN[1]), signer=issue("RIM Signer")),
    rim("600.1", resource(0, GOLDEN[1]), signer=LATER),
    rim("600.1", resource(0, GOLDEN[1]), signer=issue("RIM Signer", issue("NVIDIA CoRIM signing Root CA"))),
    rim("600.1", resource(0, GOLDEN[1]), method=SignatureMethod.ECDSA_SHA256),
    DRIVER_RIM.replace(GOLDEN[1].hex().encode(), GOLDEN[2].hex().encode()), DRIVER_RIM.replace(b"600.1", b"600.2"),
    DRIVER_RIM.replace(b'active="False"', b'active="True"'), DRIVER_RIM.replace(b"<Payload>", b"<Payload><!-- x -->"),
    b'<!DOCTYPE x [<!ENTITY a "b">]>' + DRIVER_RIM, DRIVER_RIM[:-9], DRIVER_RIM + b"<a/>", b"<a/>", b"<",
    b"<?xml version='1.0'?><?x y?>" + DRIVER_RIM, b"<" * (2 << 20), b"<a>" * 100_000, b"<\xff/>",
    b"<outer>" + DRIVER_RIM + b"</outer>",
], ids=lambda value: None)
def test_a_manifest_that_is_refused(driver: bytes) -> None:
    assert "nvidia0.measurement" in unproven(Device().json(), request(driver, VBIOS_RIM, roots=ROOTS))


def test_both_manifests_are_needed_and_none_may_be_revoked() -> None:
    assert unproven(Device().json(), request(DRIVER_RIM, roots=ROOTS)) == ["nvidia0.measurement"]
    assert unproven(Device().json(), request(VBIOS_RIM, roots=ROOTS)) == ["nvidia0.measurement"]
    both = (DRIVER_RIM, VBIOS_RIM, revoke(ROOT))
    assert unproven(Device().json(), request(*both, roots=ROOTS)) == []
    assert unproven(Device().json(), request(*both, revoke(RIM_ROOT, 31), roots=ROOTS)) == ["nvidia0.measurement"]
    assert unproven(Device().json(), request(DRIVER_RIM, VBIOS_RIM, revoke(ROOT, 32), roots=ROOTS)) == [
        "nvidia0.revocation"]


def test_two_manifests_of_one_version_are_none() -> None:
    """The last one would take the place of the other."""
    loose = rim("600.1", resource(0, GOLDEN[1], b"\x09" * 48))
    for given in ((DRIVER_RIM, loose), (loose, DRIVER_RIM)):
        assert unproven(Device().json(), request(*given, VBIOS_RIM, roots=ROOTS)) == ["nvidia0.measurement"]
    assert unproven(Device().json(), request(DRIVER_RIM, DRIVER_RIM, VBIOS_RIM, roots=ROOTS)) == [], "the same file"
    others = [rim("599.9", resource(0, GOLDEN[1], bytes([number] * 48))) for number in (1, 2)]
    assert unproven(Device().json(), request(*others, DRIVER_RIM, VBIOS_RIM, roots=ROOTS)) == [], "of another version"


def test_an_authority_signs_no_manifest() -> None:
    signed = rim("600.1", resource(0, GOLDEN[1]), signer=issue("RIM CA", RIM_ROOT))
    assert "nvidia0.measurement" in unproven(Device().json(), request(signed, VBIOS_RIM, roots=ROOTS))


@needs_vectors
def test_no_value_of_a_public_manifest_can_be_edited() -> None:
    """Nor anything of its signature and certificates, but the line breaks in them."""
    data, asked = vector(RIM), request(at=THEN)
    end = data.index(b"<ds:Signature")
    places = (*range(0, end, 211), *range(end, len(data), 83))
    accepted = [place for place, changed in flipped(data, places) if is_accepted(changed, asked)]
    assert {data[place:place + 1] for place in accepted} <= {b"\n"}


def signed_otherwise(certificate: x509.Certificate) -> x509.Certificate:
    """The same with the other of the two signatures by ECDSA that are right: r and n - s."""
    r, s = decode_dss_signature(certificate.signature)
    signature = b"\0" + encode_dss_signature(r, P384_ORDER - s)
    der, signed = certificate.public_bytes(Encoding.DER), certificate.tbs_certificate_bytes
    start = der.index(signed) + len(signed)
    body = signed + der[start:start + 2 + der[start + 1]] + b"\3" + bytes((len(signature),)) + signature
    return x509.load_der_x509_certificate(b"\x30\x82" + len(body).to_bytes(2) + body)


def test_one_gpu_is_one_however_its_certificate_is_written() -> None:
    device = Device()
    leaf = signed_otherwise(device.issued.certificate)
    leaf.verify_directly_issued_by(ROOT.certificate)
    again = device.item() | {"certificate": base64.b64encode(leaf.public_bytes(Encoding.PEM) + ROOT.pem).decode()}
    asked = request(DRIVER_RIM, VBIOS_RIM, nonce=NONCE, roots=ROOTS)
    assert is_accepted(json.dumps([again]).encode(), asked), "it is as good as the other"
    assert not is_accepted(json.dumps([device.item(), again]).encode(), asked)


@needs_vectors
def test_a_switch_alone_is_no_gpu() -> None:
    report = from_item(json.loads(vector(SWITCH))[0]["evidence"])
    assert not next(recognise(report)).is_gpu
    assert next(recognise(from_item(json.loads(vector(H100))[0]["evidence"]))).is_gpu


@needs_vectors
def test_values_for_devices_are_met_by_a_gpu_only() -> None:
    """A switch beside one is fine."""
    switch, gpu = json.loads(vector(SWITCH)), json.loads(vector(H100))
    assert is_accepted(json.dumps(switch).encode(), request())
    values: tuple[dict[str, Any], ...] = ({}, {"protected_pcie": True})
    for each in values:
        assert "reference.format" in unproven(json.dumps(switch).encode(), request(nvidia=each))
    assert "reference.format" in unproven(from_item(switch[0]["evidence"]), request(nvidia={}))
    assert is_accepted(json.dumps(switch + gpu).encode(), request(nvidia={}))


def from_item(text: str) -> bytes:
    """As the SDK writes a report: in base64, or in hexadecimal digits."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return base64.b64decode(text)
