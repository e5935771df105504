"""The reference values of a launch: what is measured of its guest, made by the launch's own steps, and worked out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.errors import Refused
from vmtool.findings import Finding, failing, refuse
from vmtool.plan import MakeDir, Plan, Step
from vmtool.spec.runtime import Spec
from vmtool.stage.devices import DevicesStage
from vmtool.stage.image import ImageStage
from vmtool.stage.launch import Launch

# What a host lacks for the start of a guest, and not for its files.
FOR_THE_START = ("libvirt.absent", "libvirt.version", "libvirt.qemu", "libvirt.only-rendered")


def scratch_spec(spec: Spec) -> Spec:
    """The spec under a name of its own: nothing that is measured depends on it, and an instance is left alone."""
    name = f"reference-{hashlib.sha256(spec.name.encode()).hexdigest()[:12]}"
    return spec.model_copy(update={"metadata": spec.metadata.model_copy(update={"name": name})})


def plan_files(launch: Launch) -> Plan:
    """Make what is measured, by the launch's own steps; nothing to do where all of it is there.

    Raises:
        Refused, NotReady: it cannot be made here; every reason together.
    """
    refuse(_reasons(launch), f"{launch.body.runtime.handler} gives no reference values for this spec")
    steps = tuple(launch.launcher.measured_files(launch))
    if not steps:
        return Plan(launch.owner, launch.directory, ())
    first = Step("make the directory of what is measured", (MakeDir(launch.directory / "evidence"),))
    return Plan(launch.owner, launch.directory, (first, *ImageStage().prepare(launch), *steps))


def _reasons(launch: Launch) -> Iterator[Finding]:
    """What is wrong with the spec; and where files are made, what this host lacks for them."""
    makes = launch.launcher.makes_measured_files
    found = failing((*launch.launcher.check(launch), *(
        (*ImageStage().check(launch), *DevicesStage().check(launch)) if makes else ())))
    yield from (item for item in found if item.id not in FOR_THE_START and (makes or item.fault == "input"))


def measured_guest(launch: Launch) -> MeasuredGuest:
    """What of the guest is measured; call once the files of `plan_files` are made.

    Raises:
        Refused: the launch makes no guest.
    """
    guest = launch.launcher.measured(launch)
    if guest is None:
        raise Refused(f"handler {launch.body.runtime.handler} makes no guest: nothing of its launch is measured",
                      hint="write handler: kata or libvirt")
    return guest
