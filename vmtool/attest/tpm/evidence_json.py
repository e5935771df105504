"""Evidence of a TPM as JSON: what tpm2-tools write, in base64. No common form exists, so this one is vmtool's."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from vmtool.attest.certificates import load_certificates
from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import mapping, text
from vmtool.attest.tpm.event_log import BANKS

MEMBERS = frozenset({"quote", "signature", "ak_public", "ak_certificate", "pcrs", "event_log"})
Registers = Mapping[str, Mapping[int, bytes]]


@dataclass(frozen=True)
class Presented:
    """The parts of the evidence; empty where it has none."""

    quote: bytes
    signature: bytes
    key: bytes
    certificates: tuple[x509.Certificate, ...]
    registers: Registers
    log: bytes


def parse_evidence(value: Any) -> Presented:
    """Read the evidence's JSON.

    Raises:
        NotProven: a part is missing, unknown or odd.
    """
    fields = mapping(value, "the evidence", MEMBERS)
    parts = {name: base64.b64decode(text(fields[name], name), validate=True) for name in MEMBERS - {"pcrs"}
             if fields.get(name) is not None}
    require({"quote", "signature", "ak_public"} <= parts.keys() and all(parts.values()),
            "quote, signature or ak_public is missing, or a part is empty")
    certificate = parts.get("ak_certificate", b"")
    return Presented(parts["quote"], parts["signature"], parts["ak_public"],
                     load_certificates(certificate) if certificate else (), _registers(fields.get("pcrs")),
                     parts.get("event_log", b""))


def _registers(value: Any) -> Registers:
    if value is None:
        return {}
    banks = mapping(value, "pcrs", frozenset(BANKS))
    known = frozenset(map(str, range(24)))
    return {bank: {int(number): bytes.fromhex(text(found, "a register"))
                   for number, found in mapping(registers, bank, known).items()} for bank, registers in banks.items()}
