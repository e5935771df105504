"""The endorsement key (EK) of a TPM: the certificate that its maker left in it, and the answer to a challenge for it.

Only the TPM with that EK can tell the challenge's secret, and only when the attestation key is in it too
(TPM2_ActivateCredential, TCG "TPM 2.0 Library", part 3). So a maker's certificate vouches for the attestation key.
"""

from __future__ import annotations

import os
import struct

from vmtool.serving.evidence.guest import Guest, NotCollected
from vmtool.serving.evidence.tpm import DEVICE, FLUSH, Ask, answered, first
from vmtool.serving.evidence.tpm_commands import (
    CREATE_PRIMARY,
    EMPTY_PASSWORD,
    ENDORSEMENT,
    NONE,
    PASSWORD,
    SHA256,
    command,
    key_command,
    sized,
)

# Of the EK of 2048 bits of RSA (TCG EK Credential Profile, 2.2.1.4, and template L-1 of annex B).
CERTIFICATE = 0x01c00002
# PolicySecret of the endorsement hierarchy: the EK's policy.
POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
TEMPLATE = struct.pack(">HHI", 0x0001, SHA256, 0x000300b2) + sized(POLICY) + struct.pack(
    ">HHHHHI", 0x0006, 128, 0x0043, NONE, 2048, 0) + sized(bytes(256))
READ_PUBLIC, READ, START, SECRET, ACTIVATE = 0x169, 0x14e, 0x176, 0x151, 0x147
NOBODY, POLICY_SESSION = 0x40000007, 1
# Of one read; no certificate is longer than the second.
PIECE, MOST = 512, 4096
# How a challenge begins, as tpm2-tools write it into a file.
MAGIC = bytes.fromhex("badcc0de00000001")


def introduction(guest: Guest) -> tuple[bytes, bytes]:
    """The attestation key's public part, and the certificate of the EK; both empty where the TPM has none.

    Raises:
        NotCollected: the TPM refuses. OSError: the kernel does.
    """
    with guest.session(DEVICE) as ask:
        certificate = _certificate(ask)
        if not certificate:
            return b"", b""
        created = answered(ask, key_command())
        answered(ask, command(FLUSH, b"", created[:4]))
    return sized(first(created[8:])), certificate


def activate(guest: Guest, challenge: bytes) -> bytes:
    """The secret of a challenge.

    Raises:
        NotCollected: the challenge is for another TPM, or for another attestation key. OSError: the kernel refuses.
    """
    if not challenge.startswith(MAGIC):
        raise NotCollected(f"{DEVICE}: the broker's challenge is none")
    held: list[bytes] = []
    with guest.session(DEVICE) as ask:
        try:
            held.append(answered(ask, key_command())[:4])
            held.append(answered(ask, _endorsement_key())[:4])
            held.append(_session(ask))
            own, endorsement, session = held
            passwords = struct.pack(">IHBH", PASSWORD, 0, 0, 0) + session + struct.pack(">HBH", 0, 1, 0)
            answer = answered(ask, command(ACTIVATE, own + endorsement, sized_long(passwords) + challenge[len(MAGIC):],
                                           sessions=True))
        finally:
            for handle in held:
                answered(ask, command(FLUSH, b"", handle))
    return first(answer[4:])


def sized_long(data: bytes) -> bytes:
    """The sessions of a command, with their length."""
    return struct.pack(">I", len(data)) + data


def _certificate(ask: Ask) -> bytes:
    """As X.509 has it, without what may follow it there; empty where there is none that may be read."""
    index = struct.pack(">I", CERTIFICATE)
    try:
        public = first(answered(ask, command(READ_PUBLIC, index, b"")))
        size = min(int.from_bytes(public[-2:], "big"), MOST)
        data = b"".join(first(answered(ask, command(READ, index + index, EMPTY_PASSWORD + struct.pack(
            ">HH", min(PIECE, size - at), at)))[4:]) for at in range(0, size, PIECE))
    except NotCollected:
        return b""
    return data[:4 + int.from_bytes(data[2:4], "big")] if data[:2] == b"\x30\x82" else b""


def _endorsement_key() -> bytes:
    return command(CREATE_PRIMARY, struct.pack(">I", ENDORSEMENT), EMPTY_PASSWORD + sized(sized(b"") + sized(b""))
                   + sized(TEMPLATE) + struct.pack(">HI", 0, 0))


def _session(ask: Ask) -> bytes:
    """The handle of a session in which the EK may be used."""
    nobody = struct.pack(">II", NOBODY, NOBODY)
    session = answered(ask, command(START, nobody, sized(os.urandom(16)) + sized(b"") + struct.pack(
        ">BHH", POLICY_SESSION, NONE, SHA256)))[:4]
    answered(ask, command(SECRET, struct.pack(">I", ENDORSEMENT) + session, EMPTY_PASSWORD + sized(b"") + sized(b"")
                          + sized(b"") + struct.pack(">I", 0)))
    return session
