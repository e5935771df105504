"""`vmtool start`: launch an instance again from what its directory holds."""

from __future__ import annotations

import time

import click

from vmtool.cli.apply_plan import apply_plan
from vmtool.errors import Explained, Refused
from vmtool.host.local import LocalMachine
from vmtool.instance.promise import is_stopped
from vmtool.instance.read import read_instance
from vmtool.launch.commands.make_plan import make_launch
from vmtool.launch.commands.plan import TIMEOUT
from vmtool.launch.commands.run import note_canary, show_summary
from vmtool.launch.facts import read_launched_spec
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.proof.evidence import read_evidence


@click.command()
@click.argument("name")
@TIMEOUT
@click.option("--watch", "by_watch", is_flag=True, hidden=True, help="As vmtool watch does it.")
@click.pass_obj
def start_command(state: State, name: str, timeout: float | None, by_watch: bool) -> None:
    """Start an instance again that was stopped or has ended, with the spec that it was launched with and its key."""
    instance = read_instance(state, name)
    spec = read_launched_spec(instance)
    started, doing = time.monotonic(), f"vmtool {'watch: ' if by_watch else ''}start {name}"

    def make() -> Plan:
        # Under the lock: a person who stops it just now is faster, or waits for the end of this.
        if by_watch and is_stopped(instance.paths):
            raise Refused(f"{name} was stopped", hint=f"vmtool start {name}")
        return make_launch(LocalMachine(), state, spec, timeout, again="watch" if by_watch else "person")

    try:
        plan = apply_plan(state, instance.paths.directory, doing, make)
    except Explained as error:
        error.hint = error.hint or f"vmtool logs {name}"
        raise
    if by_watch:
        note_canary(instance.paths, read_evidence(read_instance(state, name)))
    else:
        show_summary(state, name, plan, time.monotonic() - started)
