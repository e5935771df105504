"""What a TPM signs and signs with, as data (TPM 2.0 Library, part 2: Structures). Numbers are big-endian."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cose import PublicKey
from vmtool.attest.cursor import Cursor, require
from vmtool.frozen import dataclass
from vmtool.serving.evidence.tpm_commands import PCRS

GENERATED, QUOTE = b"\xffTCG", 0x8018
RSA, ECC, NULL = 0x01, 0x23, 0x10
RSASSA, RSAPSS, ECDSA = 0x14, 0x16, 0x18
# TPMA_OBJECT: of a key that lives in one TPM and signs only what that TPM made.
FIXED_TPM, FIXED_PARENT, ORIGIN, RESTRICTED, DECRYPT, SIGN = 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 17, 1 << 18
CURVES: dict[int, type[ec.EllipticCurve]] = {3: ec.SECP256R1, 4: ec.SECP384R1, 5: ec.SECP521R1}
# SHA-1 is not among them: a quote of the SHA-1 bank is refused.
HASHES: dict[int, tuple[str, Callable[[bytes], Any], hashes.HashAlgorithm]] = {
    0x0b: ("sha256", hashlib.sha256, hashes.SHA256()), 0x0c: ("sha384", hashlib.sha384, hashes.SHA384()),
    0x0d: ("sha512", hashlib.sha512, hashes.SHA512())}
LEAST_RSA = 2048


@dataclass(frozen=True)
class Quote:
    """TPMS_ATTEST of a quote.

    Args:
        signer: name of the key, qualified; extra is the nonce.
        selected: registers, by the bank.
        digest: over their values.
    """

    signer: bytes
    extra: bytes
    resets: int
    safe: bool
    selected: Mapping[str, tuple[int, ...]]
    digest: bytes


@dataclass(frozen=True)
class AttestationKey:
    """TPMT_PUBLIC of a key, and its name."""

    key: PublicKey
    attributes: int
    name: bytes

    def require_restricted(self) -> None:
        """It signs only what its own TPM made.

        Raises:
            NotProven: it may sign, or be, something else.
        """
        needed = FIXED_TPM | FIXED_PARENT | ORIGIN | RESTRICTED | SIGN
        require(self.attributes & needed == needed and not self.attributes & DECRYPT,
                f"the key's attributes {self.attributes:#x} are not those of an attestation key")


def _sized(cursor: Cursor) -> bytes:
    """A TPM2B: two bytes of size, and so many bytes."""
    return cursor.take(cursor.number(2))


def parse_quote(data: bytes) -> Quote:
    """Read what was signed.

    Raises:
        NotProven: it is no quote, or it goes on.
    """
    cursor = Cursor(data, "the quote", "big")
    require(cursor.take(4) == GENERATED and cursor.number(2) == QUOTE, "nothing that a TPM made as a quote")
    signer, extra = _sized(cursor), _sized(cursor)
    cursor.take(8)
    resets, _, safe = cursor.number(4), cursor.number(4), cursor.number(1)
    require(safe in (0, 1), "an odd clock")
    cursor.take(8)
    selected: dict[str, tuple[int, ...]] = {}
    for _ in range(_few(cursor.number(4))):
        bank, bits = _algorithm(cursor.number(2)), cursor.take(cursor.number(1))
        require(bank not in selected and len(bits) <= PCRS // 8, "an odd selection of registers")
        selected[bank] = tuple(number for number in range(8 * len(bits)) if bits[number // 8] >> number % 8 & 1)
    digest = _sized(cursor)
    cursor.end()
    return Quote(signer, extra, resets, bool(safe), selected, digest)


def _few(count: int) -> int:
    require(0 < count <= 4, f"{count} banks of registers")
    return count


def _algorithm(number: int) -> str:
    require(number in HASHES, f"hash algorithm {number:#x} is not accepted")
    return HASHES[number][0]


def parse_public(data: bytes) -> AttestationKey:
    """Read a key's public area, a TPM2B_PUBLIC as tpm2-tools writes it.

    Raises:
        NotProven: it is no key for signing of RSA or of EC.
    """
    outer = Cursor(data, "the key", "big")
    area = _sized(outer)
    outer.end()
    cursor = Cursor(area, "the key", "big")
    kind, hashed = cursor.number(2), cursor.number(2)
    _algorithm(hashed)
    attributes = cursor.number(4)
    _sized(cursor)
    require(cursor.number(2) == NULL, "an attestation key has no symmetric algorithm")
    if cursor.number(2) != NULL:
        _algorithm(cursor.number(2))
    key = _rsa(cursor) if kind == RSA else _ec(cursor, kind)
    cursor.end()
    return AttestationKey(key, attributes, hashed.to_bytes(2, "big") + HASHES[hashed][1](area).digest())


def _rsa(cursor: Cursor) -> PublicKey:
    bits, exponent = cursor.number(2), cursor.number(4) or 65537
    modulus = int.from_bytes(_sized(cursor), "big")
    require(modulus.bit_length() == bits >= LEAST_RSA, "the RSA key is too small, or odd")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _ec(cursor: Cursor, kind: int) -> PublicKey:
    curve = cursor.number(2)
    require(kind == ECC and curve in CURVES and cursor.number(2) == NULL, f"the key's type {kind:#x} is unknown")
    x, y = (int.from_bytes(_sized(cursor), "big") for _ in range(2))
    return ec.EllipticCurvePublicNumbers(x, y, CURVES[curve]()).public_key()


def verify_signature(data: bytes, signature: bytes, key: PublicKey) -> str:
    """The hash of the registers' digest, once the TPMT_SIGNATURE over the quote is the key's.

    Raises:
        NotProven: it is of another kind than the key.
        InvalidSignature: it is not.
    """
    cursor = Cursor(signature, "the signature", "big")
    scheme, name = cursor.number(2), cursor.number(2)
    _algorithm(name)
    hashed = HASHES[name][2]
    if isinstance(key, ec.EllipticCurvePublicKey) and scheme == ECDSA:
        r, s = (int.from_bytes(_sized(cursor), "big") for _ in range(2))
        cursor.end()
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashed))
    elif isinstance(key, rsa.RSAPublicKey) and scheme in (RSASSA, RSAPSS):
        value = _sized(cursor)
        cursor.end()
        pss = padding.PSS(padding.MGF1(hashed), padding.PSS.AUTO)
        key.verify(value, data, padding.PKCS1v15() if scheme == RSASSA else pss, hashed)
    else:
        raise NotProven(f"signature scheme {scheme:#x} does not fit the key")
    return HASHES[name][0]
