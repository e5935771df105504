"""Commands on one instance: exec, stop, rm."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

import click

from vmtool.cli.apply_plan import authorise, remove
from vmtool.cli.numbers import Seconds
from vmtool.cli.streams import harmless
from vmtool.containerd.container import exec_argv
from vmtool.errors import Damaged, Refused, VmtoolError
from vmtool.host import processes, signals
from vmtool.host.local import LocalMachine
from vmtool.instance.instance import Instance, subject_of
from vmtool.instance.promise import mark_stopped, started_by_watch, withdraw, withdrawing
from vmtool.launch.commands.damage import explained, read_known, require_gone
from vmtool.launch.stages import launcher_of
from vmtool.launch.stop import Drained, drain_instance, stop_instance
from vmtool.machine import Host
from vmtool.paths import State
from vmtool.plan import Plan, Run, Step

DRAIN = click.option("--drain", type=Seconds(0), help="Seconds that its answers may take to end; what is not over by "
                     "then is cut off [spec.timeouts.drain, or 30].")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.option("-t", "--tty", is_flag=True, help="With a terminal of its own.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_command(state: State, name: str, tty: bool, command: tuple[str, ...]) -> None:
    """Run a command inside an instance: vmtool exec NAME -- CMD. Its exit status becomes vmtool's."""
    instance = running(state, name)
    record = instance.known()
    if why := launcher_of(record.handler).no_exec:
        raise Refused(f"{name}: {why}", hint=f"vmtool logs {name}, or vmtool status "
                      f"{name}, which asks the guest")
    words = [*(["--tty"] if tty else []), record.unit, *command]
    argv = exec_argv(record.endpoint, f"vmtool-{os.getpid()}", instance.paths.fifos, *words)
    authorise(Plan(subject_of(name), state.instance(name), (Step("run a command inside", (Run(argv),)),)))
    # The command talks to the user's own terminal and its exit status is the answer, so vmtool steps aside.
    processes.become(argv)


@click.command()
@click.argument("name")
@DRAIN
@click.option("--grace", type=Seconds(0), default=20.0, show_default=True, help="Seconds until it is killed.")
@click.option("--again", is_flag=True, hidden=True, help="As vmtool watch does it, which starts it again.")
@click.option("--unproven", is_flag=True, hidden=True, help="As vmtool watch ends what is strict.")
@click.pass_obj
def stop_command(state: State, name: str, drain: float | None, grace: float, again: bool, unproven: bool) -> None:
    """End an instance's process, once it has answered what it was asked; what is new gets 503. Its network, files and
    logs stay until `rm`. Nobody but `start` or `run` starts it again."""
    instance = read_known(LocalMachine(), state, name)
    by_watch = again or unproven
    if not (_end(state, instance, grace, "vmtool watch") if by_watch else _stop(state, instance, drain, grace)):
        return
    if unproven:
        mark_stopped(instance)
    click.echo(f"stopped {name}; start it again with: vmtool start {name}; remove it with: vmtool rm {name}", err=True)


def _stop(state: State, instance: Instance, drain: float | None, grace: float) -> bool:
    """Take the promise back, and end it; whether it ran."""
    with signals.interrupting(), withdrawing(state, instance) as withdrawal:
        drained = _drain(state, withdrawal.instance, drain, "stop")

        def last(host: Host) -> None:
            _close(drained, host)
            withdrawal.finish()

        return _end(state, withdrawal.instance, grace, "vmtool stop", last)


def _end(state: State, instance: Instance, grace: float, by: str,
         last: Callable[[Host], None] = lambda host: None) -> bool:
    if instance.pid is None:
        click.echo(f"{instance.name} does not run: {instance.state}", err=True)
        return False
    try:
        stop_instance(state, instance, grace, by=by, last=last)
    except Damaged as error:
        raise explained(LocalMachine(), state, instance.name, error) from error
    return True


@click.command()
@click.argument("name")
@DRAIN
@click.option("-y", "--yes", is_flag=True, help="Also when it runs, without asking.")
@click.pass_obj
def rm_command(state: State, name: str, drain: float | None, yes: bool) -> None:
    """Remove an instance and everything it started, once it has answered what it was asked; what is new gets 503."""
    instance, machine = read_known(LocalMachine(), state, name), LocalMachine()
    if (instance.pid or instance.state == "starting") and not yes:
        if not sys.stdin.isatty():
            raise Refused(f"{name} is {instance.state}", hint=f"vmtool rm --yes {name}")
        click.confirm(f"{name} is {instance.state}. Remove it?", abort=True)
    if started_by_watch(state, instance):
        instance = withdraw(state, instance)
    drained = _drain(state, instance, drain, "rm")
    directory = instance.paths.directory
    try:
        remove(state, directory, f"vmtool rm {name}",
               lambda problems: require_gone(machine, state, directory, problems), partial(_close, drained))
    except Damaged as error:
        raise explained(machine, state, name, error) from error
    click.echo(f"removed {name}", err=True)


def _drain(state: State, instance: Instance, drain: float | None, verb: str) -> Drained:
    drained = drain_instance(state, instance, drain, f"vmtool {verb} {instance.name}")
    if drained.problem:
        click.echo(f"warning: {drained.problem}: what it is answering is cut off", err=True)
    return drained


def _close(drained: Drained, host: Host) -> None:
    if left := drained.close(host):
        click.echo(f"{left} answers are cut off", err=True)


def running(state: State, name: str) -> Instance:
    """The instance, which must be running; one that does although its journal is damaged serves, and it is said.

    Raises:
        VmtoolError: it is not.
    """
    instance = read_known(LocalMachine(), state, name)
    if instance.damage and not instance.serves:
        raise explained(LocalMachine(), state, name, instance.damage)
    if instance.damage:
        click.echo(f"warning: {harmless(instance.damage.message)} ({instance.damage.hint})", err=True)
    elif not instance.serves:
        raise VmtoolError(f"{name} does not run: {instance.state}", hint=f"vmtool status {name}")
    return instance
