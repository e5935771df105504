"""`vmtool plan`: show what `run` would do."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vmtool.cli.numbers import Seconds
from vmtool.doctor.host import questions
from vmtool.host.local import LocalMachine
from vmtool.paths import State

SPEC = click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC.yaml")
TIMEOUT = click.option("--timeout", type=Seconds(1), help="Seconds until /health must answer.")


@click.command()
@SPEC
@TIMEOUT
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--exit-code", is_flag=True, help="Exit with 5 when there is something to do.")
@click.pass_obj
def plan_command(state: State, spec: Path, timeout: float | None, as_json: bool, exit_code: bool) -> None:
    """Show what `run` would do, as an exact runbook."""
    machine = LocalMachine()
    # What the host is asked in any case, it is asked while the rest of vmtool is imported, which takes as long.
    with machine.beside(questions(machine)):
        from vmtool.cli.output import print_json
        from vmtool.launch.commands.make_plan import make_plan
        from vmtool.plan import plan_lines, to_json

        plan = make_plan(machine, state, spec, timeout)
    if as_json:
        print_json(plan=to_json(plan))
    else:
        click.echo("\n".join(plan_lines(plan)))
    if exit_code and plan.changes:
        sys.exit(5)
