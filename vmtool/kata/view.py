"""How Kata's findings, files and keys look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vmtool.cli.output import print_table, printable
from vmtool.findings import Finding

if TYPE_CHECKING:
    from vmtool.kata.keys import Key
    from vmtool.kata.render import Rendering
    from vmtool.kata.which import Reading

# The words that `vmtool kata` has for the levels of its lint.
SEVERITIES = {"fail": "error", "warn": "warning", "note": "note"}
COLORS = {"fail": "red", "warn": "yellow", "note": "cyan"}


def show_findings(findings: Sequence[Finding], *, err: bool = False) -> None:
    """A line and a hint for each, and a summary."""
    width = max((len(item.id) for item in findings), default=0)
    for item in findings:
        severity = click.style(SEVERITIES[item.level].ljust(7), fg=COLORS[item.level])
        click.echo(f"{severity}  {item.id.ljust(width)}  {printable(item.place)}: {printable(item.detail)}", err=err)
        click.echo(f"{' ' * 7}  {' ' * width}  hint: {printable(item.hint)}", err=err)
    count = Counter(SEVERITIES[item.level] for item in findings)
    click.echo(", ".join(f"{count[word]} {word}{'s' * (count[word] != 1)}" for word in SEVERITIES.values()), err=err)


def finding_json(item: Finding) -> dict[str, str]:
    """A finding of the lint as `vmtool kata check --json` shows it."""
    from vmtool.kata.lint.rules import RULES

    return {"id": item.id, "severity": SEVERITIES[item.level], "when": RULES[item.id].when, "place": item.place,
            "key": item.title, "message": item.detail, "hint": item.hint}


def rendering_json(made: Rendering) -> dict[str, Any]:
    """A rendering with what it stands on and what is changed in that."""
    base = {"source": made.base.source, "sha256": made.base.digest, "installed": made.base.installed}
    return {"base": base, "changes": [asdict(change) for change in made.changes], "text": made.text,
            "findings": [finding_json(item) for item in made.findings]}


def show_diff(made: Rendering) -> None:
    """The changes by their sections: what is shipped, what it becomes, and why."""
    from vmtool.rendering import to_toml

    click.secho(f"{made.base.source} (sha256:{made.base.digest[:16]}...), {len(made.changes)} changes", bold=True)
    for section in dict.fromkeys(change.section for change in made.changes):
        click.echo(f"[{section}]")
        for change in (change for change in made.changes if change.section == section):
            if change.shipped is not None:
                click.secho(f"- {change.key} = {printable(to_toml(change.shipped))}", fg="red")
            click.secho(f"+ {change.key} = {printable(to_toml(change.value))}", fg="green")
            click.echo(f"    {change.reason}")


def show_which(readings: Sequence[Reading]) -> None:
    """A block for each way to start a VM."""
    for item in readings:
        config = item.config
        language = ", runtime-rs" if item.language == "Rust" else ""
        click.secho(f"{item.name}" + (f" (Kata {item.version}{language})" if item.version else ""), bold=True)
        click.echo(f"  reads   {config.path or 'nothing'} ({config.reason})")
        for path in config.drop_ins:
            click.echo(f"  merges  {path}")
        if item.override:
            click.echo(f"  unless  a pod or container has the annotation {item.override}, where containerd hands it on")
        if config.problem:
            click.secho(f"  fails   {config.problem}", fg="red")
        if item.differs:
            click.secho(f"  warning: `kata-runtime check` reads {item.tool or 'no file'}, so it says nothing about "
                        "this one; use: vmtool kata check " + str(config.path), fg="yellow")


def show_keys(keys: Sequence[Key]) -> None:
    """A table; what other templates use goes below the keys."""
    print_table(("KEY", "TYPE", "KNOWN TO", "DEFAULT", "OTHER TEMPLATES"), [
        (f"{key.section}.{key.name}", key.type, " ".join(key.known), key.default or "-",
         ", ".join(f"{name} {value}" for name, value in key.variants)) for key in keys])
