"""Ending an instance's process, and nothing else of it."""

from __future__ import annotations

import time

from vmtool.errors import VmtoolError
from vmtool.host import apply, daemons, subjects
from vmtool.host.perform import perform
from vmtool.launch.containerd import awake
from vmtool.launch.instance import Instance
from vmtool.plan import Run
from vmtool.state import State


def stop_instance(state: State, instance: Instance, grace: float) -> None:
    """SIGTERM to the container's first process, SIGKILL after `grace` seconds.

    Raises:
        VmtoolError: the process lives on.
    """
    endpoint = instance.known().endpoint
    directory = instance.paths.directory
    with subjects.working_on(state, directory, f"vmtool stop {instance.name}"), apply.open_log(directory) as log:
        for action in awake(state, endpoint):
            perform(action, log, lambda text: None)
        for signal, wait in (("SIGTERM", grace), ("SIGKILL", 10.0)):
            kill = Run(endpoint.ctr("task", "kill", "--signal", signal, instance.name), gone=("not found",))
            perform(kill, log, lambda text: None)
            end = time.monotonic() + wait
            while daemons.living(instance.paths.pidfile):
                if time.monotonic() > end:
                    break
                time.sleep(0.05)
            else:
                return
    raise VmtoolError(f"{instance.name}: process {instance.pid} survives SIGKILL", hint="look at dmesg: it may hang in "
                      "the kernel", log=str(directory / "log" / "host.log"))
