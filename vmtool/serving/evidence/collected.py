"""What a collector brings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Collected:
    """Evidence in the form that `vmtool attest verify` reads.

    Args:
        kind: snp, tdx, cca, virtcca or tpm.
        certificates: the table of certificates that the host gave along; empty when it gave none.
    """

    kind: str
    evidence: bytes
    certificates: bytes = b""
