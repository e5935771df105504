"""`vmtool model encrypt`, `inspect` and `verify`."""

from __future__ import annotations

from pathlib import Path

import click

from vmtool.cli.apply_plan import show_or_apply
from vmtool.cli.output import print_json
from vmtool.errors import Refused, VerificationFailed, shell_word
from vmtool.host.local import LocalMachine
from vmtool.models.encryption.facts import read_encryption
from vmtool.models.encryption.inspect import inspect_model, open_manifest
from vmtool.models.encryption.keys import new_key_hint, read_master, read_signer
from vmtool.models.encryption.plan_encrypt import plan_encrypt
from vmtool.models.encryption.view import file_rows, print_findings
from vmtool.models.plan_model import work_dir
from vmtool.paths import State
from vmtool.serving.cryptotensors.jwk import ALGORITHMS

_DIRECTORY = click.Path(path_type=Path)


@click.command()
@click.argument("directory", type=_DIRECTORY)
@click.option("-o", "out", type=_DIRECTORY, required=True, help="Where the encrypted model comes.")
@click.option("--key", type=_DIRECTORY, required=True, metavar="FILE", help="The master key (vmtool key generate).")
@click.option("--sign", type=_DIRECTORY, required=True, metavar="FILE", help="The signing key.")
@click.option("--alg", type=click.Choice(sorted(ALGORITHMS)), help="The key must be for this cipher [any].")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def encrypt_command(state: State, directory: Path, out: Path, key: Path, sign: Path, alg: str | None,
                    dry_run: bool) -> None:
    """Encrypt the model in DIRECTORY, and sign it. An interrupted one goes on where it ended."""
    source, target, keys = directory.absolute(), out.absolute(), (key.absolute(), sign.absolute())
    master = read_master(keys[0], hint=new_key_hint(key))
    signer = read_signer(keys[1], hint=new_key_hint(sign, sign=True))
    if alg not in (None, master.algorithm):
        raise Refused(f"{key}: a key for {master.algorithm}, not for {alg}",
                      hint=f"vmtool key generate --alg {alg} -o {shell_word(key)}.{alg}")
    show_or_apply(state, work_dir(state, target, "encrypt"), f"vmtool model encrypt {directory}", lambda: plan_encrypt(
        state, read_encryption(LocalMachine(), source, target, master, signer), source, target, keys, master, signer),
                  dry_run)


@click.command()
@click.argument("directory", type=_DIRECTORY)
@click.option("--signer", type=_DIRECTORY, required=True, metavar="FILE", help="The owner's key, or its public part.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def inspect_command(directory: Path, signer: Path, as_json: bool) -> None:
    """Show what the encrypted model in DIRECTORY has, as its owner signed it."""
    manifest = open_manifest(directory, read_signer(signer, private=False))
    if as_json:
        print_json(signer=manifest.signer, manifest=f"sha256:{manifest.digest}", files=file_rows(manifest))
        return
    click.echo(f"signed by {manifest.signer}")
    click.echo(f"manifest sha256:{manifest.digest}")
    for row in file_rows(manifest):
        click.echo(f"{'encrypted' if row['encrypted'] else 'clear':9}  {row['size']:>14}  {row['name']}")


@click.command()
@click.argument("directory", type=_DIRECTORY)
@click.option("--signer", type=_DIRECTORY, required=True, metavar="FILE", help="The owner's key, or its public part.")
@click.option("--key", type=_DIRECTORY, metavar="FILE", help="Open every tensor with the master key too.")
@click.option("--data", is_flag=True, help="Compare the encrypted bytes too, not the headers alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def verify_command(directory: Path, signer: Path, key: Path | None, data: bool, as_json: bool) -> None:
    """Verify the encrypted model in DIRECTORY against what its owner signed. Exit code 4 when it is another."""
    owner, master = read_signer(signer, private=False), read_master(key) if key else None
    manifest = open_manifest(directory, owner)
    findings = tuple(inspect_model(directory, manifest, owner, data=data, master=master))
    if as_json:
        print_json(signer=manifest.signer, findings=[each.as_json() for each in findings])
    else:
        print_findings(findings)
    if any(each.level == "fail" for each in findings):
        raise VerificationFailed(f"{directory} is not the model that {manifest.signer} signed")
