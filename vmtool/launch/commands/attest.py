"""`vmtool attest`: the verifiers' commands, and those that know launches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmtool.attest.commands import attest_command
from vmtool.cli.output import print_json
from vmtool.launch.commands.evidence import evidence
from vmtool.paths import State

if TYPE_CHECKING:
    from vmtool.attest.measure.compute import Computed

__all__ = ["attest_command"]

attest_command.add_command(evidence)


@attest_command.command("reference")
@click.argument("subject", metavar="SPEC.yaml|IMAGE")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there, not to stdout.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def reference(state: State, subject: str, output: Path | None, as_json: bool) -> None:
    """Work out what a launch of SPEC.yaml must show, before it starts; or what is known of a guest image.

    What cannot be computed before the start is named, with the reason.
    """
    from vmtool import __version__
    from vmtool.attest.measure.reference_text import reference_text
    from vmtool.launch.commands.image_reference import image_values

    path = Path(subject)
    computed = spec_values(state, path) if path.suffix in (".yaml", ".yml") else image_values(path)
    text = reference_text(f"What {path.name} must show; computed by vmtool {__version__}.", computed)
    if as_json:
        print_json(kind="attest-reference", subject=subject, values=computed.values, missing=computed.missing)
    else:
        for name, why in computed.missing.items():
            click.secho(f"not computed: {name}: {why}", fg="yellow", err=True)
        _hand_out(text, output)


def spec_values(state: State, path: Path) -> Computed:
    """What a launch of the spec must show: what is measured is made in a place of its own, and removed afterwards."""
    from vmtool.attest.measure.compute import compute
    from vmtool.cli.apply_plan import apply_plan, remove
    from vmtool.host.local import LocalMachine
    from vmtool.launch.facts import read_launch
    from vmtool.launch.plan_reference import measured_guest, plan_files, scratch_spec
    from vmtool.spec.load import read_spec

    launch, _ = read_launch(LocalMachine(), state, scratch_spec(read_spec(path)))
    if not plan_files(launch).changes:
        return compute(measured_guest(launch))
    doing = f"vmtool attest reference {path}"
    apply_plan(state, launch.directory, doing, lambda: plan_files(launch))
    try:
        return compute(measured_guest(launch))
    finally:
        remove(state, launch.directory, doing)


def _hand_out(text: str, output: Path | None) -> None:
    from vmtool.host.files import write_output

    if output:
        click.echo(f"written: {write_output(output, text)}", err=True)
    else:
        click.echo(text, nl=False)
