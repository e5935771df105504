"""`vmtool model rewrap`."""

from __future__ import annotations

from pathlib import Path

import click

from vmtool.cli.apply_plan import show_or_apply
from vmtool.host.local import LocalMachine
from vmtool.models.encryption.keys import new_key_hint, read_master, read_signer
from vmtool.models.plan_model import work_dir
from vmtool.models.rewrap.facts import read_rewrap
from vmtool.models.rewrap.plan_rewrap import plan_rewrap
from vmtool.paths import State

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("directory", type=_PATH)
@click.option("--key", type=_PATH, required=True, metavar="FILE", help="The master key that opens it now.")
@click.option("--new-key", type=_PATH, required=True, metavar="FILE", help="The one that opens it from then on.")
@click.option("--sign", type=_PATH, required=True, metavar="FILE", help="The signing key of the model's owner.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def rewrap_command(state: State, directory: Path, key: Path, new_key: Path, sign: Path, dry_run: bool) -> None:
    """Give the encrypted model in DIRECTORY another master key; the encrypted data stay as they are. An interrupted one
    goes on where it ended; until it is done the old key opens the model."""
    target, files = directory.resolve(), (key.absolute(), new_key.absolute(), sign.absolute())
    keys = read_master(files[0]), read_master(files[1], hint=new_key_hint(new_key))
    signer = read_signer(files[2])
    show_or_apply(state, work_dir(state, target, "rewrap"), f"vmtool model rewrap {directory}", lambda: plan_rewrap(
        state, read_rewrap(LocalMachine(), target, keys, signer), target, files, keys), dry_run)
