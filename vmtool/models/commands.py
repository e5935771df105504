"""`vmtool model`: make the canary model; encrypt and verify models."""

from __future__ import annotations

from pathlib import Path

import click

from vmtool.cli.apply_plan import apply_plan
from vmtool.cli.lazy import LazyGroup
from vmtool.host.local import LocalMachine
from vmtool.image.commands import this_endpoint
from vmtool.image.pinned_image import read_image
from vmtool.models.canary import plan_canary, work_dir
from vmtool.models.canary_facts import read_target
from vmtool.paths import State
from vmtool.plan import Plan, plan_lines

COMMANDS = {
    "canary": ("models.commands", "Train a tiny model that knows a few answers to the letter."),
    "encrypt": ("models.encryption.commands", "Encrypt a model, and sign it."),
    "inspect": ("models.encryption.commands", "Show what an encrypted model has."),
    "verify": ("models.encryption.commands", "Verify an encrypted model against what its owner signed."),
}


@click.group(cls=LazyGroup, rooms=COMMANDS)
def model_command() -> None:
    """Make the canary model; encrypt models, and verify encrypted ones."""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--image", default="vmtool/vllm-cpu", show_default=True, metavar="NAME", help="Whose torch trains it.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def canary_command(state: State, directory: Path, image: str, dry_run: bool) -> None:
    """Train a tiny model in DIRECTORY that knows a few answers to the letter; the same bytes every time."""
    target = directory.absolute()

    def make() -> Plan:
        endpoint = this_endpoint(state)
        reader = LocalMachine()
        return plan_canary(state, endpoint, read_image(reader, state, endpoint, image), read_target(reader, target))

    if dry_run:
        click.echo("\n".join(plan_lines(make())))
        return
    plan = apply_plan(state, work_dir(state, target), f"vmtool model canary {directory}", make)
    if not plan.changes:
        click.echo(f"nothing to do: {plan.steps[0].skip}", err=True)
        return
    click.echo(f"{directory} holds the canary model; its questions stand in {directory / 'canary.json'}")
