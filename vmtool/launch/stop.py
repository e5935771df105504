"""Ending an instance's process, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

from vmtool.cli.apply_plan import working_host
from vmtool.containerd.endpoint import awake
from vmtool.errors import VmtoolError
from vmtool.instance.instance import Instance, Record
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.launch_domain import PROGRAM, domain_name
from vmtool.paths import State
from vmtool.plan import Action, Run


def stop_instance(state: State, instance: Instance, grace: float) -> None:
    """SIGTERM to the container's first process, SIGKILL after `grace` seconds; a guest of libvirt's is asked to power
    off, and destroyed.

    Raises:
        VmtoolError: the process lives on.
    """
    directory = instance.paths.directory
    with working_host(state, directory, f"vmtool stop {instance.name}") as host:
        for actions, wait in ((_politely(state, instance), grace), (_by_force(instance), 10.0)):
            for action in actions:
                action.do(host)
            end = host.now() + wait
            while host.living(instance.paths.pidfile):
                if host.now() > end:
                    break
                host.sleep(0.05)
            else:
                return
    raise VmtoolError(f"{instance.name}: process {instance.pid} survives SIGKILL", hint="look at dmesg: it may hang in "
                      "the kernel", log=str(directory / "log" / "host.log"))


def _politely(state: State, instance: Instance) -> tuple[Action, ...]:
    record, paths = instance.known(), instance.paths
    if record.handler == "libvirt":
        return (GuestRequest(Path(record.channel), "stop", paths.pidfile, paths.console, fleeting=True),)
    return (*awake(state, record.endpoint), _kill(record, "SIGTERM"))


def _by_force(instance: Instance) -> tuple[Action, ...]:
    record = instance.known()
    if record.handler == "libvirt":
        return (Run((*PROGRAM, record.uri, "end", domain_name(record.name)), deadline=90.0),)
    return (_kill(record, "SIGKILL"),)


def _kill(record: Record, signal: str) -> Run:
    return Run(record.endpoint.ctr("task", "kill", "--signal", signal, record.name), absent_messages=("not found",))
