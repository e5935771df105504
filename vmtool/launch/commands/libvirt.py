"""`vmtool libvirt`: render the domain that libvirt would be given."""

from __future__ import annotations

from pathlib import Path

import click

from vmtool.errors import shell_word
from vmtool.paths import State


@click.group()
def libvirt_command() -> None:
    """Render libvirt's domains."""


@libvirt_command.command("render")
@click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC.yaml")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there, not to stdout.")
@click.pass_obj
def render(state: State, spec: Path, output: Path | None) -> None:
    """Render the domain that `vmtool run` would define. What would stop the run goes to stderr."""
    from vmtool.host.files import write_output
    from vmtool.host.local import LocalMachine
    from vmtool.launch.facts import read_launch
    from vmtool.launch.render import render_launch
    from vmtool.spec.load import read_spec

    wanted = read_spec(spec)
    rendering = render_launch(*read_launch(LocalMachine(), state, wanted))
    for line in rendering.stops:
        click.secho(f"vmtool run would stop: {line}", fg="yellow", err=True)
    if output:
        path = write_output(output, rendering.text)
        click.echo(f"written: {path}" + ("" if rendering.stops else f"; next: vmtool run {shell_word(spec)}"), err=True)
    else:
        click.echo(rendering.text, nl=False)
