"""Claims for a person, and what follows when one of them failed."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.claims import Claim, unmet
from vmtool.cli.output import print_table, printable
from vmtool.errors import VerificationFailed
from vmtool.instance.instance import InstanceRecord


def show_claims(claims: Sequence[Claim]) -> None:
    """A line each. A part of the evidence is a guest's own words."""
    print_table(("CLAIM", "VERDICT", "EVIDENCE"),
                [(claim.id, claim.verdict, printable(claim.evidence)) for claim in claims])


def require_wish(record: InstanceRecord, claims: Sequence[Claim]) -> None:
    """Nothing that was asked for may have failed.

    Raises:
        VerificationFailed: a claim has.
    """
    if failed := unmet(claims, confidential=record.confidential):
        raise VerificationFailed(f"{record.name} runs, but not as it was asked for: {', '.join(failed)}",
                                 hint=f"vmtool logs {record.name}, then: vmtool rm {record.name}")
