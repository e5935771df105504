"""Tokens of CCA and virtCCA made by tests; of virtCCA none is public."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.attest.make_certificates import Form, Issued, issue
from vmtool.attest.request import Roots

ROOT = issue("Kunpeng Root")
MIDDLE = issue("Kunpeng CA", ROOT)
DEVICE = issue("device", MIDDLE, Form(authority=False, serial=41), key=ec.generate_private_key(ec.SECP521R1()))
ROOTS = Roots({"virtcca-root.pem": ROOT.pem + MIDDLE.pem})
GUEST = ec.generate_private_key(ec.SECP384R1())
NONCE = bytes(range(64))


def head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes((major << 5 | value,))
    width = next(width for width in range(4) if value < 1 << (8 << width))
    return bytes((major << 5 | 24 + width,)) + value.to_bytes(1 << width, "big")


def cbor(value: Any) -> bytes:
    """The shortest encoding; maps keep their order."""
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())


def tagged(tag: int, data: bytes) -> bytes:
    return head(6, tag) + data


def point(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return encoded


def spki(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def sign1(payload: bytes, key: Any, *, unprotected: bytes = b"\xa0", header: dict[int, Any] | None = None) -> bytes:
    """A COSE_Sign1 by the algorithm that fits the key."""
    size = 0 if isinstance(key, rsa.RSAPrivateKey) else (key.curve.key_size + 7) // 8
    algorithm = {32: -7, 48: -35, 66: -36, 0: -38}[size]
    hashed = {32: hashes.SHA256(), 48: hashes.SHA384(), 66: hashes.SHA512(), 0: hashes.SHA384()}[size]
    protected = cbor({1: algorithm} if header is None else header)
    signed = cbor(["Signature1", protected, b"", payload])
    if size:
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashed)))
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    else:
        signature = key.sign(signed, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
    return tagged(18, b"\x84" + cbor(protected) + unprotected + cbor(payload) + cbor(signature))


@dataclass(frozen=True)
class Made:
    """A token; each test changes one thing of it. Claims that are None are left out."""

    guest: Any = GUEST
    platform_key: Any = DEVICE.key
    key_octets: bytes = point(GUEST)
    realm: dict[Any, Any] = field(default_factory=dict)
    platform: dict[Any, Any] | None = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def token(self) -> bytes:
        realm: dict[Any, Any] = {
            10: NONCE, 44235: bytes(64), 44236: "sha-256", 44237: self.key_octets, 44238: b"\1" * 32,
            44239: REMS, 44240: "sha-256", **self.realm}
        parts = {44241: sign1(payload(realm), self.guest, **self.options)}
        if self.platform is not None:
            parts[44234] = sign1(payload({
                265: "http://arm.com/CCA-SSD/1.0.0", 10: hashlib.sha256(self.key_octets).digest(), 2396: b"\3" * 32,
                256: b"\1" + b"\4" * 32, 2401: b"c", 2395: 0x3000, 2399: [{2: b"\5" * 32, 5: b"\6" * 32}],
                **self.platform}), self.platform_key, **self.options)
        return tagged(399, cbor(parts))

    def virtcca(self, device: Issued = DEVICE, **more: Any) -> bytes:
        """As openEuler's agent writes it."""
        evidence = {"evidence": list(self.token()), "dev_cert": list(device.der), "ima_log": None}
        return json.dumps(evidence | more).encode()


# Of a guest that its hypervisor booted directly, in which IMA measures.
REMS = [b"\2" * 32, *[bytes(32)] * 3]


def payload(claims: dict[Any, Any]) -> bytes:
    return cbor({number: value for number, value in claims.items() if value is not None})


def jwk(key: Any) -> bytes:
    import base64

    encoded = point(key)[1:]
    size = len(encoded) // 2
    x, y = (base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (encoded[:size], encoded[size:]))
    return json.dumps({"kty": "EC", "crv": f"P-{key.curve.key_size}", "x": x, "y": y}).encode()


def ima(*files: bytes, register: int = 4, digest: bytes = b"\1" * 20, name: bytes = b"ima-ng") -> bytes:
    """IMA's own form, in little-endian order."""
    def sized(data: bytes) -> bytes:
        return len(data).to_bytes(4, "little") + data
    return b"".join(register.to_bytes(4, "little") + digest + sized(name) + sized(file) for file in files)
