"""Appraisals for a person and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from vmtool.attest.appraisal import Appraisal
from vmtool.cli.output import print_table, printable


def appraisal_json(appraisal: Appraisal) -> dict[str, Any]:
    """As documents show it."""
    return {"label": appraisal.label, "title": appraisal.title, "verified": appraisal.verified,
            "unproven": list(appraisal.unproven),
            "claims": [vars(claim) | {"required": claim.id not in appraisal.optional | appraisal.accepted}
                       for claim in appraisal.claims]}


def show_appraisals(appraisals: Sequence[Appraisal]) -> None:
    """A line for each claim, and what was not compared with anything."""
    for appraisal in appraisals:
        print_table(("CLAIM", "VERDICT", "EVIDENCE"),
                    [(claim.id, claim.verdict, printable(claim.evidence)) for claim in appraisal.claims])
        if appraisal.verified:
            left = ", ".join(claim.id for claim in appraisal.claims if claim.verdict == "not-checked")
            click.echo(appraisal.concluded + (f"; NOT checked: {left}" if left else ""))
