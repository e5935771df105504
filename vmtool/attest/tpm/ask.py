"""Asking a TPM for a quote: the commands, and the evidence in its answers (TPM 2.0 Library, part 3: Commands).

The key is a primary one of the endorsement hierarchy, made anew from the TPM's own seed each time, so that the same TPM
has the same key. It is restricted: it signs only what the TPM made.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from vmtool.attest.cursor import Cursor, require

PCRS = 24
SESSIONS = 0x8002
CREATE_PRIMARY, QUOTE = 0x131, 0x158
ENDORSEMENT = 0x4000000b
# Bytes of the nonce and of the key's handle, and where they are in the command for a quote.
NONCE, HANDLE = 32, 4
HANDLE_AT, NONCE_AT = 10, 29
# TPM_RS_PW with an empty password.
PASSWORD = bytes.fromhex("40000009" "0000" "00" "0000")
# TPMT_PUBLIC: ECC on P-256, signing with ECDSA and SHA-256, with the attributes of an attestation key.
TEMPLATE = bytes.fromhex("0023" "000b" "00050072" "0000" "0010" "0018" "000b" "0003" "0010" "0000" "0000")
SHA256, NULL = bytes.fromhex("000b"), bytes.fromhex("0010")


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _command(code: int, handle: bytes, parameters: bytes) -> bytes:
    body = code.to_bytes(4, "big") + handle + len(PASSWORD).to_bytes(4, "big") + PASSWORD + parameters
    return SESSIONS.to_bytes(2, "big") + (len(body) + 6).to_bytes(4, "big") + body


def key_command() -> bytes:
    """TPM2_CreatePrimary of the attestation key."""
    parameters = _sized(_sized(b"") + _sized(b"")) + _sized(TEMPLATE) + _sized(b"") + bytes(4)
    return _command(CREATE_PRIMARY, ENDORSEMENT.to_bytes(4, "big"), parameters)


def quote_command(handle: bytes, nonce: bytes, registers: Sequence[int]) -> bytes:
    """TPM2_Quote of registers of the SHA-256 bank.

    Args:
        handle: of the key, as the answer to `key_command` has it; nonce: 32 bytes.
    """
    bits = bytearray(PCRS // 8)
    for number in registers:
        bits[number // 8] |= 1 << number % 8
    selection = (1).to_bytes(4, "big") + SHA256 + bytes((len(bits),)) + bytes(bits)
    return _command(QUOTE, handle, _sized(nonce) + NULL + selection)


def evidence_of(key: bytes, quote: bytes, event_log: bytes) -> dict[str, Any]:
    """The evidence as vmtool's JSON has it.

    Args:
        key, quote: the TPM's answers to the two commands.

    Raises:
        NotProven: one is no answer, or the TPM's error.
    """
    made = _parameters(key, "the TPM's answer about its key", handles=1)
    public = made.take(2 + int.from_bytes(made.data[made.at:made.at + 2], "big"))
    quoted = _parameters(quote, "the TPM's answer about the quote", handles=0)
    attested = quoted.take(quoted.number(2))
    signature = quoted.take(quoted.left())
    parts = {"quote": attested, "signature": signature, "ak_public": public, "event_log": event_log}
    return {name: base64.b64encode(data).decode() for name, data in parts.items() if data}


def _parameters(answer: bytes, what: str, handles: int) -> Cursor:
    """The parameters of an answer with sessions."""
    cursor = Cursor(answer, what, "big")
    tag, size, status = cursor.number(2), cursor.number(4), cursor.number(4)
    require(status == 0, f"{what} is error {status:#x}")
    require(tag == SESSIONS and size == len(answer), f"{what} is odd")
    cursor.take(4 * handles)
    return Cursor(cursor.take(cursor.number(4)), what, "big")
