"""An upgrade: the new one is launched beside the old one and proven, then the published ports lead to it, the old one's
answers come to their end, and it goes. Whatever fails before that, the old one goes on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from vmtool.doctor.host import HostFacts
from vmtool.endpoint.actions import AskCanary, AwaitHealth, Drain
from vmtool.findings import refuse
from vmtool.instance.instance import Instance
from vmtool.launch.check import find_problems
from vmtool.launch.check_upgrade import check_address, check_room
from vmtool.launch.pipeline import launch_steps
from vmtool.launch.stages import stages_of
from vmtool.net.plan import plan_move
from vmtool.plan import Plan, Step
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import Launch

DRAIN = 300.0
# The new one is healthy already: only the way to it is new.
WAY = 30.0


def plan_upgrade(launch: Launch, host: HostFacts, old: Instance, running: Spec, *, drain: float | None,
                 typed: str) -> Plan:
    """From the instance as it runs to the new one in its place.

    Args:
        running: the spec of the old one.
        drain: seconds that its answers may take to end.
        typed: the command, for the hint.

    Raises:
        Refused: no upgrade can do that without a gap. NotReady: the new one has no room beside the old one.
    """
    found = [*check_address(running.spec, launch.body, launch.name), *check_room(old, launch, host),
             *find_problems(launch, stages_of(launch), host)]
    cured = all(item.id.startswith(("upgrade.", "gpu.")) for item in found)
    refuse(sorted(found, key=lambda item: item.fault == "host"), f"{launch.name} cannot be upgraded without a gap",
           f"with a gap of {gap(old)}: vmtool stop {launch.name} && {typed}" if cured else
           f"correct what is listed, then look again with: {typed} --dry-run")
    steps = tuple(launch_steps(launch))
    seconds = drain or launch.body.timeouts.drain or DRAIN
    return Plan(launch.owner, launch.directory, (*steps, *closing_steps(launch, old, steps, seconds)), slot=launch.slot)


def closing_steps(launch: Launch, old: Instance, steps: tuple[Step, ...], seconds: float) -> Iterator[Step]:
    """What follows once the new one is proven."""
    record, paths = launch.record, launch.paths
    yield plan_move(launch.network_facts, launch.network, container_id=launch.unit, netns_name=launch.netns,
                    directory=paths.network, publish=launch.body.published)
    asked = [replace(action, server=record.server) for step in steps for action in step.actions
             if isinstance(action, AskCanary)]
    yield Step("ask it where clients do", (AwaitHealth(record.server, paths.pidfile, paths.log, WAY), *asked),
               waits_only=True, closing=True)
    leave = Drain(old.known().managed, old.paths.manager, old.paths.pidfile, seconds)
    yield Step(f"let what the old one answers come to its end, at most {seconds:.0f} s", (leave,), waits_only=True,
               closing=True)
    kept = [step.undo for step in steps if step.inherited]
    undo = [action for entry in reversed(old.journal.entries) if entry.undo not in kept for action in entry.undo]
    yield Step("remove the old one", tuple(undo), ends_previous=True)


def gap(old: Instance) -> str:
    """What a gap would cost, in words."""
    seconds = sum(seconds for _, seconds in old.journal.seconds)
    return f"about {seconds:.0f} s, as its last start took" if seconds else "the time of a start"


def typed_command(name: str, *options: tuple[str, object]) -> str:
    """The command with the options that were given, for a hint."""
    given = [word for option, value in options if value is not None for word in (option, str(value))]
    return shlex.join(("vmtool", "upgrade", name, *given))
