"""`vmtool run`: read the spec, read the facts, make the plan, apply it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import click

from vmtool.bundle.observed import ObservingReader
from vmtool.claims import Claim
from vmtool.cli.apply_plan import apply_plan
from vmtool.errors import Explained
from vmtool.host import event_log, locks
from vmtool.host.local import LocalHost, LocalMachine
from vmtool.instance.instance import Paths
from vmtool.instance.read import read_instance
from vmtool.launch.claims import read_claims
from vmtool.launch.commands.make_plan import make_plan
from vmtool.launch.commands.plan import SPEC, TIMEOUT, plan_command
from vmtool.launch.keep_answer import keep_answer
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.proof.evidence import keep_evidence, read_evidence
from vmtool.proof.requirements import require_request
from vmtool.proof.view import show_claims
from vmtool.spec.facts import read_own_spec
from vmtool.spec.load import read_spec


@click.command()
@SPEC
@TIMEOUT
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--keep-on-failure", is_flag=True, help="Leave a failed launch as it is, for a look.")
@click.pass_context
def run_command(ctx: click.Context, spec: Path, timeout: float | None, dry_run: bool, keep_on_failure: bool) -> None:
    """Start the runtime of a spec, and report ready only when the canary's answer was right."""
    if dry_run:
        ctx.invoke(plan_command, spec=spec, timeout=timeout)
        return
    state: State = ctx.obj
    name = read_spec(spec).name
    started, doing = time.monotonic(), f"vmtool run {name}"
    try:
        plan = apply_plan(state, state.instance(name), doing, lambda: make_plan(LocalMachine(), state, spec, timeout),
                          keep=keep_on_failure)
    except Explained as error:
        error.hint = error.hint or f"vmtool logs {name}"
        raise
    show_summary(state, name, plan, time.monotonic() - started)


def note_canary(paths: Paths, claims: Iterable[Claim]) -> None:
    """Among the events: what the question with a known answer showed at the start."""
    for claim in claims:
        if claim.id == "canary":
            event_log.record(paths.directory, "canary", verdict=claim.verdict)


def show_summary(state: State, name: str, plan: Plan, seconds: float) -> None:
    """Address, what is proven and what is not, and the next commands."""
    instance = read_instance(state, name)
    record = instance.known()
    if plan.changes:
        claims = read_evidence(instance)
        note_canary(instance.paths, claims)
    else:
        instance.paths.stopped.unlink(missing_ok=True)  # of a stop whose last act was killed: it runs, and is promised
        observed = ObservingReader(LocalMachine())
        claims = read_claims(observed, instance, whole=True)
        keep_evidence(state, instance, claims, f"vmtool run {name}",
                      partial(keep_answer, LocalHost(), observed, instance))
    took = f"ready after {seconds:.1f} s" if plan.changes else "runs already"
    click.echo(f"{name} {took}" + (f" at {record.server.shell()}/v1" if record.host else ""))
    show_claims(claims)
    if not record.confidential:
        click.secho("This launch is NOT confidential.", fg="yellow", bold=True)
    require_request(record, claims)
    click.echo(f"key:  {instance.paths.key}")
    click.echo(f'next: vmtool chat {name} "..."   vmtool status {name}   vmtool rm {name}')
    if not locks.is_held(state.watch_lock):
        left = ["brings it back when its container dies or the host boots"] if read_own_spec(
            instance.paths.spec).spec.restart.policy != "no" else []
        left += ["bounds its logs"] if record.handler == "libvirt" else []
        watch = "vmtool watch --install" if os.path.isdir("/run/systemd/system") else "vmtool watch"
        if left:
            click.echo(f"nothing {', or '.join(left)}, until this runs: {watch}", err=True)
