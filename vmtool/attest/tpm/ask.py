"""The evidence in a TPM's answers to the commands of `vmtool.serving.evidence.tpm_commands`."""

from __future__ import annotations

import base64
from typing import Any

from vmtool.attest.cursor import Cursor, require
from vmtool.serving.evidence.tpm_commands import SESSIONS

# Bytes of the nonce and of the key's handle, and where they are in the command for a quote.
NONCE, HANDLE = 32, 4
HANDLE_AT, NONCE_AT = 10, 29


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
