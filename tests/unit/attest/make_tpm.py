"""What a TPM writes, made by tests: quotes, keys, signatures, event logs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

NONCE = b"a nonce of twenty by"
ATTRIBUTES = 0x00050072
KEY: Any = ec.generate_private_key(ec.SECP256R1())
EVENTS = ((0, 8, b"firmware"), (4, 0x80000003, b"kernel"), (4, 0x80000003, b"initrd"), (8, 13, b"command line"))


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


Hashes = tuple[tuple[int, str], ...]


def log(events: tuple[tuple[int, int, bytes], ...] = EVENTS, locality: int | None = None,
        hashed: Hashes = ((4, "sha1"), (11, "sha256")), first: int = 0) -> bytes:
    """An event log with SHA-1 and SHA-256; of others by their number and name."""
    algorithms = b"".join(number.to_bytes(2, "little") + hashlib.new(name).digest_size.to_bytes(2, "little")
                          for number, name in hashed)
    header = b"Spec ID Event03\0" + bytes(8) + len(hashed).to_bytes(4, "little") + algorithms + b"\0"
    data = first.to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(20)
    data += len(header).to_bytes(4, "little") + header
    if locality is not None:
        events = ((0, 3, b"StartupLocality\0" + bytes((locality,))), *events)
    for register, kind, event in events:
        digests = [(number, hashlib.new(name, event).digest()) for number, name in hashed]
        data += b"".join(value.to_bytes(4, "little") for value in (register, kind, len(hashed)))
        data += b"".join(number.to_bytes(2, "little") + digest for number, digest in digests)
        data += len(event).to_bytes(4, "little") + event
    return data


def registers(events: tuple[tuple[int, int, bytes], ...] = EVENTS) -> dict[int, bytes]:
    found = {number: bytes(32) for number in range(17)}
    for register, _, event in events:
        found[register] = hashlib.sha256(found[register] + hashlib.sha256(event).digest()).digest()
    return found


def public(key: Any, attributes: int = ATTRIBUTES) -> bytes:
    """TPM2B_PUBLIC."""
    numbers = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        rest = b"\0\x10\0\x16\0\x0b" + key.key_size.to_bytes(2, "big") + bytes(4) + sized(numbers.n.to_bytes(
            key.key_size // 8, "big"))
        kind = b"\0\1"
    else:
        point = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
        rest = b"\0\x10\0\x18\0\x0b\0\3\0\x10" + point
        kind = b"\0\x23"
    return sized(kind + b"\0\x0b" + attributes.to_bytes(4, "big") + sized(b"") + rest)


def name(key: Any) -> str:
    return "000b" + hashlib.sha256(public(key)[2:]).hexdigest()


@dataclass(frozen=True)
class Tpm:
    """Evidence; each test changes one thing of it."""

    key: Any = KEY
    attributes: int = ATTRIBUTES
    selected: tuple[int, ...] = (0, 4, 8)
    values: Mapping[int, bytes] = field(default_factory=registers)
    quoted: Mapping[int, bytes] = field(default_factory=registers)
    magic: bytes = b"\xffTCG\x80\x18"
    nonce: bytes = NONCE
    bank: bytes = b"\0\x0b"
    scheme: int | None = None
    log: bytes | None = field(default_factory=log)
    certificate: bytes = b""
    more: dict[str, Any] = field(default_factory=dict)
    unquoted: Mapping[int, bytes] = field(default_factory=dict)

    def quote(self) -> bytes:
        bits = bytearray(3)
        for number in self.selected:
            bits[number // 8] |= 1 << number % 8
        digest = hashlib.sha256(b"".join(self.quoted[number] for number in self.selected)).digest()
        return (self.magic + sized(b"\0\x0b" + bytes(32)) + sized(self.nonce) + bytes(8) + (1).to_bytes(4, "big")
                + bytes(4) + b"\1" + bytes(8) + (1).to_bytes(4, "big") + self.bank + b"\3" + bytes(bits)
                + sized(digest))

    def signature(self) -> bytes:
        data = self.quote()
        if isinstance(self.key, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            scheme = self.scheme or 0x16
            made = self.key.sign(data, pss if scheme == 0x16 else padding.PKCS1v15(), hashes.SHA256())
            return scheme.to_bytes(2, "big") + b"\0\x0b" + sized(made)
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return (self.scheme or 0x18).to_bytes(2, "big") + b"\0\x0b" + sized(r.to_bytes(32, "big")) + sized(
            s.to_bytes(32, "big"))

    def json(self, **changed: bytes) -> bytes:
        parts = {"quote": self.quote(), "signature": self.signature(), "ak_public": public(self.key, self.attributes),
                 "ak_certificate": self.certificate or None, "event_log": self.log, **changed}
        encoded: dict[str, Any] = {key: base64.b64encode(part).decode() for key, part in parts.items()
                                   if part is not None}
        values = {str(number): value.hex() for number, value in self.values.items() if number in self.selected}
        values |= {str(number): value.hex() for number, value in self.unquoted.items()}
        return json.dumps(encoded | {"pcrs": {"sha256": values} if values else None} | self.more).encode()
