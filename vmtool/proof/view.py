"""Claims for a person."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.claims import Claim
from vmtool.cli.output import print_table, printable


def show_claims(claims: Sequence[Claim]) -> None:
    """A line each. A part of the evidence is a guest's own words."""
    print_table(("CLAIM", "VERDICT", "EVIDENCE"),
                [(claim.id, claim.verdict, printable(claim.evidence)) for claim in claims])
