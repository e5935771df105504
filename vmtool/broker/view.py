"""How a broker's configuration is shown."""

from __future__ import annotations

import click

from vmtool.broker.release import ReleaseRules
from vmtool.cli.output import print_table


def show_release(release: ReleaseRules) -> None:
    """What would be released to whom."""
    scheme = "https" if release.certificates else "http"
    click.echo(f"{scheme}://{release.address[0]}:{release.address[1]}")
    rows = []
    for name, rule in sorted(release.rules.items()):
        policy = rule.policy
        asked = [*(["a GPU"] if policy.gpu else []), *(f"{what} {value}" for what, value in (
            ("model", policy.model), ("signer", policy.signer)) if value)]
        shown = "NO PROOF" if policy.is_sample else " or ".join(policy.tee)
        rows.append((name, ", ".join((shown, *asked)), str(policy.reference or "-")))
    print_table(("RESOURCE", "RELEASED TO", "VALUES"), rows)
