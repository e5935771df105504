"""The guest's part of a launch by Kata: its configuration, its devices, and the look at what was started."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmtool import plan as p
from vmtool.doctor.host import HostFacts
from vmtool.errors import NotReady
from vmtool.findings import Finding, failing, from_error
from vmtool.gpu.launch_devices import Backend, Selection, device_paths, plan_accelerators
from vmtool.instance.instance import Paths
from vmtool.kata.facts import Target
from vmtool.kata.proof import sandbox_name
from vmtool.kata.render import render
from vmtool.kata.request import Survey
from vmtool.kata.values import values_of
from vmtool.paths import State
from vmtool.qemu.actions import ExpectTee, KillQemu
from vmtool.qemu.timeouts import create_seconds
from vmtool.spec.runtime import Spec


@dataclass(frozen=True)
class Guest:
    """A guest to start.

    Args:
        text: Kata's configuration; notes: ids of what the lint has to say about it.
        devices: PCI addresses; nodes: what the launcher passes on for them.
        seconds: that `ctr run` may take.
        end: what makes sure that no QEMU is left, whatever became of the shim; the devices are given back after it.
    """

    survey: Survey
    text: str
    notes: tuple[str, ...]
    devices: tuple[str, ...]
    nodes: tuple[Path, ...]
    seconds: float
    end: tuple[p.Action, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """NVIDIA's hook does nothing unless the container asks for devices."""
        return (("NVIDIA_VISIBLE_DEVICES", "all"),) if self.survey.asked.hook_path else ()


def target_of(host: HostFacts) -> Target:
    """The machine, as rendering wants to know it."""
    total = host.memory.total
    return Target(host.cpu.arch, total >> 20 if total is not None else None, host.cpu.cores or None, host.kata)


def guest_of(spec: Spec, survey: Survey, chosen: Selection | None) -> Guest:
    """The guest that the spec amounts to; call after `check_guest` found nothing."""
    devices, nodes = chosen.bdfs if chosen else (), _nodes(survey, chosen) if chosen else ()
    text, findings = render(survey.asked)
    values = values_of(survey.asked)
    seconds = create_seconds(values.default_memory, values.default_vcpus, survey.asked.gpus, survey.asked.confidential)
    return Guest(survey, text, tuple(finding.id for finding in findings), devices, nodes, seconds + 60.0,
                 (KillQemu(sandbox_name(spec.name), survey.asked.assets.qemu),))


def check_guest(survey: Survey, chosen: Selection | None) -> Iterator[Finding]:
    """Reasons not to start it."""
    yield from survey.check_request()
    yield from survey.check_host()
    if chosen is None:
        return
    yield from chosen.findings
    if not failing(chosen.findings):
        try:
            _nodes(survey, chosen)
        except NotReady as error:
            yield from_error("gpu.node", error)


def _nodes(survey: Survey, chosen: Selection) -> tuple[Path, ...]:
    backend: Backend = "group" if survey.asked.vfio == "group" else "iommufd"
    return tuple(map(Path, device_paths(chosen.facts.inventory, chosen.bdfs, backend)))


def plan_guest(state: State, guest: Guest, chosen: Selection | None, directory: Path) -> tuple[p.Step, ...]:
    """Bind the devices and write the configuration, before the container starts."""
    paths = Paths(directory)
    binds = plan_accelerators(state, chosen) if chosen else ()
    told = f"; the lint says: {', '.join(guest.notes)}" if guest.notes else ""
    return (*binds, p.Step(f"render the configuration for Kata {guest.survey.asked.release.name}{told}",
                           (p.MakeDir(paths.kata.parent), p.WriteFile(paths.kata, guest.text))))


def plan_look(spec: Spec, guest: Guest, directory: Path) -> tuple[p.Step, ...]:
    """After the start: the VM that runs must be the VM that was asked for, or everything is undone."""
    tee = spec.spec.runtime.tee
    if tee == "none":
        return (p.Step("look whether the guest is confidential", skip="NOT CONFIDENTIAL: no TEE was asked for"),)
    assets = guest.survey.asked.assets
    look = ExpectTee(sandbox_name(spec.name), tee, guest.devices, assets.qemu, assets.kernel,
                       directory / "evidence" / "qemu.txt")
    return (p.Step(f"look whether the guest really runs in {tee}", (look,)),)
