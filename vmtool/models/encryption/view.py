"""How an encrypted model is shown."""

from __future__ import annotations

from collections.abc import Iterable

import click

from vmtool.findings import Finding
from vmtool.serving.cryptotensors.manifest import ModelManifest

_MARKS = {"ok": "✓", "fail": "✗"}


def file_rows(manifest: ModelManifest) -> list[dict[str, object]]:
    """The files, for a table or JSON."""
    return [{"name": each.name, "size": each.size, "encrypted": each.encrypted} for each in manifest.files]


def print_findings(findings: Iterable[Finding]) -> None:
    """A line each, with what helps."""
    for each in findings:
        click.echo(f"{_MARKS.get(each.level, '?')} {each.text}")
        if each.hint:
            click.echo(f"  hint: {each.hint}")
