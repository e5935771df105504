"""The form of a TDX quote (Intel, "TDX DCAP Quoting Library API", appendix A), version 4 or 5."""

from __future__ import annotations

from vmtool.attest.cursor import Cursor, require
from vmtool.frozen import dataclass

ECDSA_P256, TDX = 2, 0x81
HEADER = 48
SIGNATURE, KEY, REPORT = 64, 64, 384
# Types of certification data.
PCK_CHAIN, WITH_REPORT = 5, 6
# Size of the body; version 5 names its type, TD report 1.0 or 1.5.
BODY = 584
BODIES = {2: 584, 3: 648}


@dataclass(frozen=True)
class QuoteForm:
    """What is read of a quote before it is verified: its version, and the PEM text of the platform's certificates."""

    version: int
    certificates: bytes


def check_form(data: bytes) -> QuoteForm:
    """Read a quote's frame. dcap-qvl ignores what follows the signature data; here only padding may.

    Raises:
        NotProven: it is no quote of TDX, or it is cut or goes on.
    """
    cursor = Cursor(data, "the quote")
    version, key, tee = cursor.number(2), cursor.number(2), cursor.number(4)
    require(version in (4, 5), f"quote version {version} is unknown")
    require(key == ECDSA_P256, f"attestation key type {key} is not ECDSA P-256")
    require(tee == TDX, f"the quote is of TEE type {tee:#x}, not TDX")
    cursor.take(HEADER - 8)
    size = BODY
    if version == 5:
        kind, size = cursor.number(2), cursor.number(4)
        require(BODIES.get(kind) == size, f"a body of type {kind} with {size} bytes is unknown")
    cursor.take(size)
    certificates = _certificates(cursor.take(cursor.number(4)))
    require(not any(cursor.take(cursor.left())), "bytes follow the quote's signature data")
    return QuoteForm(version, certificates)


def _certificates(data: bytes) -> bytes:
    """The innermost part of the signature data: the quoting enclave's report is around it."""
    cursor = Cursor(data, "the signature data")
    cursor.take(SIGNATURE + KEY)
    require(cursor.number(2) == WITH_REPORT and cursor.number(4) == cursor.left(), "odd certification data")
    cursor.take(REPORT + SIGNATURE)
    cursor.take(cursor.number(2))
    require(cursor.number(2) == PCK_CHAIN and cursor.number(4) == cursor.left(), "no chain of the platform's key")
    return cursor.take(cursor.left()).rstrip(b"\0")
