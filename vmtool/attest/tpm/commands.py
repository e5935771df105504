"""`vmtool attest challenge`: ask a TPM about a key."""

from __future__ import annotations

from pathlib import Path

import click

from vmtool.attest.appraisal import describe
from vmtool.attest.options import parse_time, require_packages
from vmtool.errors import Refused, VerificationFailed, shell_word
from vmtool.host import files
from vmtool.host.local import LocalMachine

FILE = click.Path(path_type=Path)


@click.command("challenge")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FILE, metavar="DIR", required=True, help="A new directory for the two files.")
@click.option("--roots", type=FILE, metavar="DIR", required=True, help="Trust the TPM makers' tpm-*.pem in there.")
@click.option("--collateral", type=FILE, metavar="FILE", multiple=True, help="Intermediates and revocation lists.")
def challenge(file: Path, output: Path, roots: Path, collateral: tuple[Path, ...]) -> None:
    """Ask the TPM of the evidence in FILE whether the key that signs is its own. credential.bin is for
    tpm2_activatecredential there, challenge.json for `vmtool attest verify --challenge` here."""
    require_packages()
    from vmtool.attest.facts import read_file, read_files, read_roots
    from vmtool.attest.foreign_json import parse_json
    from vmtool.attest.request import Request
    from vmtool.attest.sort_collateral import sort_collateral
    from vmtool.attest.tpm.challenge import challenge_for

    machine = LocalMachine()
    request = Request(read_roots(machine, roots), parse_time(None), sort_collateral(read_files(machine, collateral)))
    if request.collateral.problems:
        raise Refused("--collateral: " + "; ".join(request.collateral.problems))
    try:
        credential, kept = challenge_for(parse_json(read_file(machine, file)), request)
    except Exception as error:
        raise VerificationFailed(f"{file}: {describe(error)}") from error
    try:
        output.mkdir(mode=0o700)
    except OSError as error:
        why = (error.strerror or "cannot be made").lower()
        raise Refused(f"{output}: {why}", hint="name a new directory") from error
    files.write_new(output / "credential.bin", credential)
    files.write_new(output / "challenge.json", kept.encode())
    click.echo(f"there: tpm2_activatecredential -i credential.bin ...; its output goes into {file.name} as "
               f'"activated", in base64\nhere:  vmtool attest verify {shell_word(file)} --challenge '
               f"{shell_word(output / 'challenge.json')} --roots {shell_word(roots)}")
