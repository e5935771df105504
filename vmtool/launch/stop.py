"""Ending an instance's process, and nothing else of it."""

from __future__ import annotations

from vmtool.cli.apply_plan import working_host
from vmtool.errors import VmtoolError
from vmtool.host.event_log import record
from vmtool.instance.instance import Instance, subject_of
from vmtool.launch.pipeline import launcher_of
from vmtool.paths import State
from vmtool.plan import Plan, Step


def stop_instance(state: State, instance: Instance, grace: float, *, by: str = "vmtool stop") -> None:
    """SIGTERM to the container's first process, SIGKILL after `grace` seconds; a guest of libvirt's is asked to power
    off, and destroyed.

    Raises:
        VmtoolError: the process lives on.
    """
    directory, launcher = instance.paths.directory, launcher_of(instance.known().handler)
    politely, by_force = launcher.end_politely(state, instance), launcher.end_by_force(instance)
    plan = Plan(subject_of(instance.name), directory, (Step("end the process", politely), Step("by force", by_force)))
    pid = instance.pid or 0
    with working_host(state, plan, f"{by} {instance.name}") as host:
        record(directory, "stopping", by=by)
        started = host.start_time(pid)
        for actions, wait in ((politely, grace), (by_force, 10.0)):
            for action in actions:
                action.do(host)
            end = host.now() + wait
            # By pid and start time: the pid file may be gone.
            while started and host.start_time(pid) == started:
                if host.now() > end:
                    break
                host.sleep(0.05)
            else:
                record(directory, "stopped", by=by)
                return
    raise VmtoolError(f"{instance.name}: process {instance.pid} survives SIGKILL", hint="look at dmesg: it may hang in "
                      "the kernel", log=str(directory / "log" / "host.log"))
