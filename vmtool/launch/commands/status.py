"""`vmtool status`: a look at one instance, its evidence, and the bundle of all that this rests on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from vmtool.bundle.observed import ObservingReader
from vmtool.claims import Claim
from vmtool.cli.output import print_json, print_table
from vmtool.errors import Refused, shell_word
from vmtool.host.local import LocalHost, LocalMachine
from vmtool.instance.instance import Instance
from vmtool.instance.read import read_beside
from vmtool.launch.claims import read_claims, read_claims_before_key
from vmtool.launch.commands.damage import explained, read_known
from vmtool.launch.commands.ps import as_row, row_json
from vmtool.launch.keep_answer import keep_answer
from vmtool.paths import State
from vmtool.proof.evidence import keep_evidence
from vmtool.proof.requirements import require_before_key, require_request
from vmtool.proof.view import show_claims


@click.command()
@click.argument("name")
@click.option("--proof", is_flag=True, help="Ask the guest and hash its image too, and keep the claims as evidence.")
@click.option("--before-key", is_flag=True, help="Only what must be so before the workload gets its key.")
@click.option("--beside", is_flag=True, help="Of an instance that is being upgraded: the new one.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
              help="With --proof: write a new bundle for `vmtool attest verify`, a tar without secrets.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def status_command(state: State, name: str, proof: bool, before_key: bool, beside: bool, output: Path | None,
                   as_json: bool) -> None:
    """Look at an instance now. Exit code 0 when it runs, 1 when it does not; with --proof or --before-key 4 when it is
    not what was asked for."""
    _check_output(name, output, proof and not before_key)
    instance, reader = read_known(LocalMachine(), state, name), ObservingReader(LocalMachine())
    instance = read_beside(state, instance) if beside else instance
    claims: Sequence[Claim] = ()
    if instance.record:
        claims = (read_claims_before_key(reader, instance) if before_key
                  else read_claims(reader, instance, whole=proof))
    written: dict[str, str] = {}
    if proof and instance.record:
        written["evidence"] = str(keep_evidence(
            state, instance, claims, f"vmtool status {name}", partial(keep_answer, LocalHost(), reader, instance)))
    if output:
        written |= _bundle(state, instance, reader, output)
    if as_json:
        error = instance.damage.message if instance.damage else instance.journal.error
        print_json(instance=row_json(instance), error=error, claims=[vars(claim) for claim in claims],
                   stages=instance.journal.seconds, **written)
    else:
        show_status(instance, claims)
        for what, value in written.items():
            click.echo(f"{what}: {value}")
    if instance.pid and (proof or before_key):
        (require_before_key if before_key else require_request)(instance.known(), claims)
    if instance.damage:
        raise explained(LocalMachine(), state, name, instance.damage)
    if not instance.serves:
        sys.exit(1)


def _check_output(name: str, output: Path | None, proof: bool) -> None:
    if not output:
        return
    if not proof:
        raise Refused("-o FILE writes what --proof proves",
                      hint=f"vmtool status {name} --proof -o {shell_word(output)}")
    from vmtool.launch.commands.bundle import require_new

    require_new(output)


def _bundle(state: State, instance: Instance, reader: ObservingReader, output: Path) -> dict[str, str]:
    from vmtool.launch.commands.bundle import write_bundle  # few looks write one

    if instance.damage:
        raise explained(LocalMachine(), state, instance.name, instance.damage)
    return {"bundle": str(output), "root": write_bundle(state, instance, reader, f"vmtool status {instance.name}",
                                                        output)}


def show_status(instance: Instance, claims: Sequence[Claim]) -> None:
    """For a person."""
    click.echo("  ".join(value for value in as_row(instance).values() if value))
    if instance.journal.error:
        click.echo(f"last error: {instance.journal.error}")
    show_claims(claims)
    print_table(("STAGE", "SECONDS"), [(title, f"{seconds:.2f}") for title, seconds in instance.journal.seconds])
