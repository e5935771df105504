"""A launch: its stages in order, its launchers by handler, and the plan that they make.

A new part of a launch is a stage in a file of its own and one word in `STAGES`; a new launcher is one line in
`LAUNCHERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from vmtool.errors import Refused
from vmtool.launch.actions import RequireClaims
from vmtool.plan import Plan, Step
from vmtool.stage.devices import DevicesStage
from vmtool.stage.encryption import EncryptionStage
from vmtool.stage.files import FilesStage
from vmtool.stage.image import ImageStage
from vmtool.stage.launch import Launch, Launcher, Stage, digest
from vmtool.stage.model import ModelStage
from vmtool.stage.network import NetworkStage
from vmtool.stage.server import CanaryStage, HealthStage
from vmtool.stage.tls import OwnKeyStage, TlsStage

if TYPE_CHECKING:
    from vmtool.doctor.host import HostFacts

# Before the launcher's own part, and after it.
BEFORE: tuple[Stage, ...] = (ModelStage(), EncryptionStage(), FilesStage(), ImageStage(), NetworkStage(),
                             DevicesStage(), TlsStage())
AFTER: tuple[Stage, ...] = (OwnKeyStage(), HealthStage(), CanaryStage())
STAGES = (*BEFORE, *AFTER)
# Handler -> module below vmtool with its LAUNCHER, imported when it is asked for.
LAUNCHERS = {"runc": "runc.stage", "kata": "kata.stage", "libvirt": "libvirt.stage"}


def launcher_of(handler: str) -> Launcher:
    """The launcher for a handler of the spec."""
    found: Launcher = importlib.import_module(f"vmtool.{LAUNCHERS[handler]}").LAUNCHER
    return found


def plan_launch(launch: Launch, host: HostFacts) -> Plan:
    """From nothing to an instance that gave the canary's answer.

    Raises:
        Refused, NotReady: as `check_launch`; or another spec runs under this name.
    """
    from vmtool.launch.check import check_launch  # it knows all of doctor, which claims do not need

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


def stages_of(launch: Launch) -> tuple[Stage, ...]:
    """All parts of the launch, in order."""
    return (*BEFORE, launch.launcher, *AFTER)
