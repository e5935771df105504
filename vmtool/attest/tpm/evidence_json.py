"""Evidence of a TPM as JSON: what tpm2-tools write, in base64. No common form exists, so this one is vmtool's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509

from vmtool.attest.certificates import load_certificates
from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import from_base64, from_hex, mapping
from vmtool.attest.tpm.event_log import BANKS
from vmtool.frozen import dataclass

MEMBERS = frozenset({"quote", "signature", "ak_public", "ak_certificate", "ek_certificate", "activated", "pcrs",
                     "event_log"})
Registers = Mapping[str, Mapping[int, bytes]]


@dataclass(frozen=True)
class Presented:
    """The parts of the evidence; empty where it has none.

    Args:
        certificates: of the attestation key; endorsement: of the TPM's endorsement key, and intermediates.
        activated: what the TPM said to a challenge.
    """

    quote: bytes
    signature: bytes
    key: bytes
    certificates: tuple[x509.Certificate, ...]
    registers: Registers
    log: bytes
    endorsement: tuple[x509.Certificate, ...] = ()
    activated: bytes = b""


def parse_evidence(value: Any) -> Presented:
    """Read the evidence's JSON.

    Raises:
        NotProven: a part is missing, unknown or odd.
    """
    fields = mapping(value, "the evidence", MEMBERS)
    parts = {name: from_base64(fields[name], name) for name in MEMBERS - {"pcrs"}
             if fields.get(name) is not None}
    require({"quote", "signature", "ak_public"} <= parts.keys() and all(parts.values()),
            "quote, signature or ak_public is missing, or a part is empty")
    own, endorsement = (load_certificates(parts[name]) if name in parts else ()
                        for name in ("ak_certificate", "ek_certificate"))
    return Presented(parts["quote"], parts["signature"], parts["ak_public"], own, _registers(fields.get("pcrs")),
                     parts.get("event_log", b""), endorsement, parts.get("activated", b""))


def _registers(value: Any) -> Registers:
    if value is None:
        return {}
    banks = mapping(value, "pcrs", frozenset(BANKS))
    known = frozenset(map(str, range(24)))
    return {bank: {int(number): from_hex(found, "a register")
                   for number, found in mapping(registers, bank, known).items()} for bank, registers in banks.items()}
