"""Commands to a TPM 2.0 for a quote (TCG, "TPM 2.0 Library", part 3), as whoever asks one writes them.

The attestation key is a primary one of the endorsement hierarchy, made from the TPM's own seed and a fixed template, so
that the same TPM always has the same key. It is restricted: it signs only what the TPM made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

# Registers of a bank.
PCRS = 24
SHA256, NONE, ECDSA, P256 = 0x000b, 0x0010, 0x0018, 0x0003
SESSIONS, NO_SESSIONS = 0x8002, 0x8001
ENDORSEMENT, PASSWORD = 0x4000000b, 0x40000009
CREATE_PRIMARY, QUOTE = 0x131, 0x158
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign: it signs only what the TPM itself made.
ATTRIBUTES = 0x00050072
KEY = struct.pack(">HHI H H HH H H HH", 0x0023, SHA256, ATTRIBUTES, 0, NONE, ECDSA, SHA256, P256, NONE, 0, 0)
EMPTY_PASSWORD = struct.pack(">IIHBH", 9, PASSWORD, 0, 0, 0)


def sized(data: bytes) -> bytes:
    """A TPM2B."""
    return struct.pack(">H", len(data)) + data


def command(code: int, handles: bytes, rest: bytes, *, sessions: bool | None = None) -> bytes:
    """A whole command.

    Args:
        sessions: whether `rest` begins with sessions; None for what it shows: the one with the empty password.
    """
    tag = SESSIONS if (rest.startswith(EMPTY_PASSWORD) if sessions is None else sessions) else NO_SESSIONS
    return struct.pack(">HII", tag, 10 + len(handles) + len(rest), code) + handles + rest


def key_command() -> bytes:
    """TPM2_CreatePrimary of the attestation key."""
    return command(CREATE_PRIMARY, struct.pack(">I", ENDORSEMENT), EMPTY_PASSWORD + sized(sized(b"") + sized(b""))
                   + sized(KEY) + struct.pack(">HI", 0, 0))


def quote_command(handle: bytes, data: bytes, registers: Iterable[int]) -> bytes:
    """TPM2_Quote of registers of the SHA-256 bank.

    Args:
        handle: of the key, as the answer to `key_command` has it; data: what the quote is over.
    """
    return command(QUOTE, handle, EMPTY_PASSWORD + sized(data) + struct.pack(">H", NONE) + selection(registers))


def selection(registers: Iterable[int]) -> bytes:
    """TPML_PCR_SELECTION with one bank."""
    bits = sum(1 << number for number in registers)
    return struct.pack(">IHB", 1, SHA256, PCRS // 8) + bits.to_bytes(PCRS // 8, "little")
