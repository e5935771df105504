"""`vmtool watch`: keep the instances, here or as a service."""

from __future__ import annotations

import time

import click

from vmtool.cli.apply_plan import has_undo, remove, show_or_apply
from vmtool.cli.numbers import Seconds
from vmtool.errors import Interrupted, NotReady
from vmtool.host import locks, signals
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.watch.loop import BUSY, IDLE, PAUSE, Watch
from vmtool.watch.model import USUAL_PACE, Pace
from vmtool.watch.world import LocalWorld


@click.command()
@click.option("--install", is_flag=True, help="As a systemd service: now, and from every boot on.")
@click.option("--uninstall", is_flag=True, help="Take that service away; what runs goes on.")
@click.option("--dry-run", is_flag=True, help="With --install: print what would be done.")
@click.option("--health-every", type=Seconds(1), default=USUAL_PACE.health, show_default=True,
              help="Seconds between two looks at /health.")
@click.option("--canary-every", type=Seconds(1), default=USUAL_PACE.canary, show_default=True,
              help="Seconds between two questions with a known answer.")
@click.option("--claims-every", type=Seconds(1), default=USUAL_PACE.claims, show_default=True,
              help="Seconds between two verifications of what is strict.")
@click.pass_obj
def watch_command(state: State, install: bool, uninstall: bool, dry_run: bool, health_every: float, canary_every: float,
                  claims_every: float) -> None:
    """Keep every instance as `run` promised it, until Ctrl-C: start again what has died, also after a reboot, ask for
    health and the canary again and again, notice GPUs that are lost."""
    if install and uninstall:
        raise click.UsageError("--install or --uninstall, not both")
    pace = Pace(health_every, canary_every, claims_every)
    if install or uninstall:
        change_service(state, install, dry_run, pace)
        return
    with locks.Lock(state.watch_lock, "vmtool watch"):
        try:
            with signals.interrupting():
                watch(LocalWorld(state, pace))
        except Interrupted as stopped:
            click.echo(f"{stopped}; what it started goes on under its journal", err=True)


def watch(world: LocalWorld) -> None:
    """Turn after turn; a look that fails, such as on a full disk, is not the last one."""
    watching, first = Watch(world), True
    while True:
        try:
            watching.turn(time.monotonic())
        except OSError as error:
            click.echo(f"error: {error}", err=True)
            time.sleep(IDLE)
        if first:
            click.echo(f"watching {world.state.instances}", err=True)
            first = False
        time.sleep(PAUSE)
        rest = watching.rest(time.monotonic())
        world.wait(min(BUSY, rest) if world.jobs or world.questions.asked else rest)


def change_service(state: State, install: bool, dry_run: bool, pace: Pace) -> None:
    """Install the unit, with this pace, or undo that."""
    from vmtool.watch.plan import UNITS, directory_of, plan_install, unit_of  # jinja2

    machine, unit = LocalMachine(), UNITS / unit_of(state)
    if not dry_run and not machine.exists("/run/systemd/system"):
        raise NotReady("systemd does not run here", hint="run it in the foreground: vmtool watch")
    if install:
        def make() -> Plan:
            return plan_install(state, installed=machine.text(str(unit)) or "", pace=pace)

        if show_or_apply(state, directory_of(state), "vmtool watch --install", make, dry_run):
            click.echo(f"watching, from every boot on: systemctl status {unit.name}", err=True)
    elif directory_of(state).is_dir() and has_undo(directory_of(state)):
        remove(state, directory_of(state), "vmtool watch --uninstall")
        click.echo("removed; the instances go on as they are", err=True)
    else:
        click.echo(f"{unit.name} is not installed", err=True)
