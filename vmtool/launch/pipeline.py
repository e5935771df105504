"""From a launch to its plan: what its stages do, in order, and the looks in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from vmtool.errors import Refused
from vmtool.launch.actions import RequireClaims
from vmtool.launch.check import check_launch
from vmtool.launch.stages import AFTER, BEFORE, stages_of
from vmtool.plan import Plan, Step
from vmtool.stage.launch import Launch, digest

if TYPE_CHECKING:
    from vmtool.doctor.host import HostFacts


def plan_launch(launch: Launch, host: HostFacts) -> Plan:
    """From nothing to an instance that gave the canary's answer.

    Raises:
        Refused, NotReady: as `check_launch`; or another spec runs under this name.
    """
    earlier = launch.earlier
    if earlier and earlier.state == "running":
        if earlier.known().digest != digest(launch.spec):
            raise Refused(f"{launch.name} runs already, with another spec",
                          hint=f"vmtool rm {launch.name}, or another metadata.name")
        skipped = Step(f"launch {launch.name}", skip="it runs, with this very spec")
        return Plan(launch.owner, launch.directory, (skipped,))
    check_launch(launch, stages_of(launch), host)
    return Plan(launch.owner, launch.directory, tuple(launch_steps(launch)), slot=launch.slot)


def launch_steps(launch: Launch) -> Iterator[Step]:
    """From nothing to an instance that was proven."""
    yield from (step for stage in stages_of(launch) for step in stage.prepare(launch))
    yield from (step for stage in (*BEFORE, launch.launcher) for step in stage.steps(launch))
    yield Step("verify what was started, before it gets the key", (_require(launch, "key"),))
    yield from launch.launcher.hand_over(launch)
    yield from (step for stage in AFTER for step in stage.steps(launch))
    yield Step("verify what runs", (_require(launch, "end"),), waits_only=True)


def _require(launch: Launch, moment: Literal["key", "end"]) -> RequireClaims:
    return RequireClaims(launch.state.root, launch.directory, moment, launch.slot, launch.replaces is not None)
