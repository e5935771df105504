"""What evidence is bound to: a nonce of whoever asks, and the TLS key of the connection on which it is asked.

Both sides compute it here. Version 1 of the layout:

    bound = SHA-256("vmtool evidence 1" 00 || nonce, 32 bytes || SHA-256 of the server's SubjectPublicKeyInfo, 32 bytes)

A server without TLS has 32 zero bytes as its key. Fields of 64 bytes (REPORT_DATA of SEV-SNP, REPORTDATA of TDX, the
challenge of CCA and virtCCA) hold the 32 bytes and then zeros; the qualifying data of a TPM is the 32 bytes alone.
"""

from __future__ import annotations

import hashlib

# Of the document that is answered. Clients refuse what they do not know, so one without devices stays of the first
# version, which every client takes; the layout of what is bound is the same in both.
VERSION, WITH_DEVICES = 1, 2
LABEL = b"vmtool evidence 1\0"
NONCE = DIGEST = 32
NO_KEY = bytes(DIGEST)
PATH = "/.well-known/vmtool/evidence"

SEQUENCE, INTEGER, VERSION_TAG = 0x30, 0x02, 0xa0
# What comes before the key in a TBSCertificate (RFC 5280, 4.1), after its optional version.
BEFORE_KEY = (INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE)


def bind(nonce: bytes, key: bytes) -> bytes:
    """The 32 bytes that evidence must hold.

    Args:
        key: as `key_digest`, or NO_KEY.

    Raises:
        ValueError: one has not its 32 bytes.
    """
    if len(nonce) != NONCE or len(key) != DIGEST:
        raise ValueError(f"a nonce has {NONCE} bytes, a key's digest {DIGEST}")
    return hashlib.sha256(LABEL + nonce + key).digest()


def report_data(bound: bytes) -> bytes:
    """The same for a field of 64 bytes."""
    return bound.ljust(64, b"\0")


def key_digest(certificate: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo in a certificate's DER.

    Raises:
        ValueError: it is no certificate.
    """
    return hashlib.sha256(public_key_info(certificate)).digest()


def public_key_info(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo, as its bytes stand in the certificate.

    Raises:
        ValueError: it is no certificate.
    """
    try:
        start, _ = _element(certificate, 0, SEQUENCE)
        at, end = _element(certificate, start, SEQUENCE)
        if certificate[at] == VERSION_TAG:
            at = _element(certificate, at, VERSION_TAG)[1]
        for tag in BEFORE_KEY:
            at = _element(certificate, at, tag)[1]
        _, after = _element(certificate, at, SEQUENCE)
    except IndexError:
        raise ValueError("no certificate: it ends too early") from None
    if after > end:
        raise ValueError("no certificate: its key lies outside")
    return certificate[at:after]


def _element(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the value of a DER element begins and ends."""
    if data[at] != tag:
        raise ValueError(f"no certificate: tag {data[at]:#x} where {tag:#x} belongs")
    size, start = data[at + 1], at + 2
    if size & 0x80:
        width = size & 0x7f
        if not 1 <= width <= 3:
            raise ValueError("no certificate: an odd length")
        size, start = int.from_bytes(data[start:start + width], "big"), start + width
    if start + size > len(data):
        raise ValueError("no certificate: an element lies outside")
    return start, start + size
