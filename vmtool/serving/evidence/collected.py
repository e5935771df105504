"""What a collector brings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Collected:
    """Evidence in the form that `vmtool attest verify` reads.

    Args:
        kind: snp, tdx, cca, virtcca, tpm, or none, whose evidence is empty.
        certificates: the table of certificates that the host gave along; empty when it gave none.
        note: what else was found, for a person.
    """

    kind: str
    evidence: bytes
    certificates: bytes = b""
    note: str = ""
