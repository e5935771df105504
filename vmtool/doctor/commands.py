"""`vmtool doctor`: look, say what is missing for a purpose and what to do about it."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import click

from vmtool.cli.output import print_json
from vmtool.doctor.compare import KIND, Difference, differences, read_document
from vmtool.doctor.diagnose import diagnose, group_of
from vmtool.doctor.host import HostFacts, read_host
from vmtool.errors import Refused
from vmtool.findings import HANDLERS, LEVELS, Finding, Handler
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.tee.table import TEE_NAMES, TeeName

COLORS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red", "not-checked": "cyan"}
NOT_READY, DIFFERENT = 3, 4
Word = TypeVar("Word", bound=str)


@click.command()
@click.option("--for", "purpose", type=click.Choice(HANDLERS), help="What the host shall run [runc].")
@click.option("--tee", type=click.Choice(TEE_NAMES), help="In which trusted execution environment [none].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: facts and findings.")
@click.option("--compare", "good", metavar="FILE", type=click.Path(path_type=Path),
              help="Show what differs from FILE, a good host's `doctor --json`, made with the same --for and --tee.")
@click.pass_obj
def doctor_command(state: State, purpose: Handler | None, tee: TeeName | None, as_json: bool,
                   good: Path | None) -> None:
    """Look whether this host can do it; every finding has a hint.

    Exit code 0 when nothing fails, 3 when something does; with --compare 0 when nothing differs, 4 when it does.
    """
    theirs = read_document(good) if good else None
    purpose, tee = _requested(purpose, tee, theirs or {})
    facts = read_host(LocalMachine(), state.root)
    findings = diagnose(facts, purpose, tee)
    ours = document(facts, findings, purpose, tee)
    if theirs is not None:
        found = differences(theirs, ours)
        show_differences(found, good, as_json)
        sys.exit(DIFFERENT if found else 0)
    if as_json:
        print_json(**ours)
    else:
        show_findings(findings)
    sys.exit(NOT_READY if any(item.level == "fail" for item in findings) else 0)


def _requested(purpose: Handler | None, tee: TeeName | None, theirs: dict[str, Any]) -> tuple[Handler, TeeName]:
    """The options, else what the file was made with, else the defaults."""
    wanted: tuple[Handler, TeeName] = (purpose or _known(HANDLERS, theirs.get("purpose")),
                                   tee or _known(TEE_NAMES, theirs.get("tee")))
    if wanted[0] == "runc" and wanted[1] != "none":
        raise Refused(f"--tee {wanted[1]}: a container under runc cannot be confidential",
                      hint=f"vmtool doctor --for kata --tee {wanted[1]}")
    return wanted


def _known(words: tuple[Word, ...], said: object) -> Word:
    """The word that was said, when it is known, else the first one."""
    return next((word for word in words if word == said), words[0])


def document(facts: HostFacts, findings: Iterable[Finding], purpose: Handler, tee: TeeName) -> dict[str, Any]:
    """The values of the JSON document, without its schema. iptables' rules are left out: there can be thousands."""
    host = dataclasses.asdict(facts)
    del host["network"]["rules"]
    return {"kind": KIND, "purpose": purpose, "tee": tee, "facts": host,
            "findings": [item.as_json() for item in findings]}


def show_findings(findings: Sequence[Finding]) -> None:
    """A heading per group, a line per finding, the hint below those that are not ok, a summary last."""
    level_width = max(map(len, LEVELS))
    id_width = max(len(item.id) for item in findings)
    title_width = max(len(item.title) for item in findings)
    for group, members in groupby(findings, group_of):
        click.secho(group, bold=True)
        for item in members:
            level = click.style(item.level.ljust(level_width), fg=COLORS[item.level])
            click.echo(f"  {level}  {item.id.ljust(id_width)}  {item.title.ljust(title_width)}  {item.detail}")
            if item.hint:
                click.echo(f"  {' ' * level_width}  hint: {item.hint}")
        click.echo()
    click.echo(summary(findings))


def summary(findings: Iterable[Finding]) -> str:
    """Such as "3 ok, 1 warning, 0 failures, 2 not checked"."""
    count = Counter(item.level for item in findings)
    return (f"{count['ok']} ok, {count['warn']} warning{'s' * (count['warn'] != 1)}, "
            f"{count['fail']} failure{'s' * (count['fail'] != 1)}, {count['not-checked']} not checked")


def show_differences(found: Sequence[Difference], good: Path | None, as_json: bool) -> None:
    """A line per path, theirs -> ours."""
    if as_json:
        print_json(kind="doctor-differences", differences=[dataclasses.asdict(item) for item in found])
        return
    for item in found:
        click.echo(f"{item.path}: {item.theirs} -> {item.ours}")
    click.echo(f"{len(found)} difference{'s' * (len(found) != 1)} from {good}")
