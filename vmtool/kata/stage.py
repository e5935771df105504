"""Launching with Kata: the configuration, the container in its guest, and the check of what was started."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from vmtool import plan as p
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.measure.init_data import init_data_text
from vmtool.attest.plan import plan_tee_reference
from vmtool.attest.tee_files import files_of
from vmtool.claims import Claim
from vmtool.containerd.endpoint import awake
from vmtool.errors import NotReady
from vmtool.facts.qemu_processes import read_qemu
from vmtool.findings import Finding, failing, from_error
from vmtool.frozen import dataclass
from vmtool.gpu.check_machine import check_mappings
from vmtool.gpu.launch_devices import Backend, Selection, device_paths
from vmtool.image.check import check_user
from vmtool.image.proof import container_image_claim
from vmtool.instance.instance import Instance, unit_of
from vmtool.kata.guest_claims import hardening_claim
from vmtool.kata.proof import guest_claims, sandbox_name
from vmtool.kata.render import Rendering, render
from vmtool.kata.request import KataRequest
from vmtool.kata.request_facts import KataRequestFacts, read_request
from vmtool.machine import DeviceReader, Reader
from vmtool.models.facts import ModelFacts
from vmtool.paths import State
from vmtool.plan import Action, Step
from vmtool.proof.devices import left_claims, task_claim
from vmtool.qemu.actions import ExpectTee, KillQemu
from vmtool.spec.runtime import Spec
from vmtool.stage.container import GuestPart, plan_container, plan_key, signal_task
from vmtool.stage.launch import Launch, Launcher
from vmtool.tee.table import NONE, tee_of


@dataclass(frozen=True)
class Guest:
    """A guest to start.

    Args:
        made: Kata's configuration, with the one that it stands on and what the lint has to say about it.
        devices: PCI addresses; nodes: what the launcher passes on for them.
        seconds: that `ctr run` may take.
    """

    facts: KataRequestFacts
    made: Rendering
    devices: tuple[str, ...]
    nodes: tuple[Path, ...]
    seconds: float

    @property
    def request(self) -> KataRequest:
        return self.facts.request

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.made.text.encode()).hexdigest()

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """NVIDIA's hook does nothing unless the container asks for devices."""
        return (("NVIDIA_VISIBLE_DEVICES", "all"),) if self.request.hook_path else ()


class KataLauncher(Launcher):
    """Renders the configuration, starts the container in its guest, checks the guest, hands over the key."""

    def read(self, reader: DeviceReader, spec: Spec, model: ModelFacts | None) -> KataRequestFacts:
        return read_request(reader, spec.spec)

    def check(self, launch: Launch) -> Iterator[Finding]:
        yield from check_user(launch.image)
        yield from check_guest(launch.guest, launch.devices)
        if launch.devices:
            yield from check_mappings(launch.devices.facts, tee_of(launch.body.runtime.tee),
                                      launch.body.resources.memory, _backend(launch.guest))

    def make(self, launch: Launch) -> Guest:
        return guest_of(launch.guest, launch.devices)

    def details(self, launch: Launch) -> Mapping[str, str]:
        guest: Guest = launch.made
        assets = guest.request.assets
        return {"program": assets.qemu, "kernel": assets.kernel, "configuration": guest.digest,
                "rendered": str(launch.paths.kata), "base": guest.made.base.source,
                "base_digest": guest.made.base.digest, "base_installed": str(guest.made.base.installed)}

    def measured(self, launch: Launch) -> MeasuredGuest:
        from vmtool.kata.measured import measured_guest  # launches have no need of it

        found: KataRequestFacts = launch.guest
        return measured_guest(found.request, render(found.request), launch.image.digest, self.init_data(launch))

    def init_data(self, launch: Launch) -> str:
        found: KataRequestFacts = launch.guest
        return init_data_text(launch.body.model.name, launch.encrypted.kid) if (
            launch.encrypted and found.request.takes_init_data) else ""

    def steps(self, launch: Launch) -> Iterator[Step]:
        guest: Guest = launch.made
        yield plan_configuration(launch, guest)
        if launch.body.runtime.tee != NONE:
            yield plan_tee_reference(self.measured(launch), launch.name, files_of(launch.paths, guest.request.tee))
        # Whatever became of the shim, no QEMU is left; the devices are released after it.
        end = (KillQemu(sandbox_name(launch.unit), guest.request.assets.qemu),)
        yield plan_container(launch, GuestPart(guest.environment, guest.nodes, launch.paths.kata, guest.seconds, end,
                                              self.init_data(launch)))
        yield plan_check(launch, guest)

    def hand_over(self, launch: Launch) -> Iterator[Step]:
        yield plan_key(launch)

    def before_key(self, reader: Reader, instance: Instance) -> Iterator[Claim]:
        yield from (claim for claim in super().before_key(reader, instance) if claim.id != "process.hardening")
        yield hardening_claim(reader, instance.known())

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        # The process on the host is the shim's or QEMU's; what holds inside the guest must be asked there.
        yield task_claim(reader, instance.known())
        yield container_image_claim(reader, instance.known())
        yield from guest_claims(reader, instance, instance.known(), whole=whole)

    def left(self, reader: Reader, instance: Instance) -> Iterator[Claim]:
        yield from left_claims(reader, instance.known(), sandbox_name(instance.unit))

    def end_politely(self, state: State, instance: Instance) -> tuple[Action, ...]:
        return (*awake(state, instance.known().endpoint), signal_task(instance.known(), "SIGTERM"))

    def end_by_force(self, instance: Instance) -> tuple[Action, ...]:
        return (signal_task(instance.known(), "SIGKILL"),)

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[Step]:
        # Its container is found as any other.
        sandbox = sandbox_name(unit_of(name, slot))
        for qemu in read_qemu(reader, sandbox):
            yield Step(f"QEMU (pid {qemu.pid}) of {sandbox}", undo=(KillQemu(sandbox, qemu.program),))


LAUNCHER = KataLauncher()


def guest_of(found: KataRequestFacts, devices: Selection | None) -> Guest:
    """The guest that the spec amounts to; call after `check_guest` found nothing."""
    return Guest(found, render(found.request), devices.bdfs if devices else (),
                 _nodes(found, devices) if devices else (), found.request.create_seconds + 60.0)


def check_guest(found: KataRequestFacts, devices: Selection | None) -> Iterator[Finding]:
    """Reasons not to start it."""
    yield from found.check_request()
    yield from found.check_host()
    if devices and not failing(devices.findings):
        try:
            _nodes(found, devices)
        except NotReady as error:
            yield from_error("gpu.node", error)


def _nodes(found: KataRequestFacts, devices: Selection) -> tuple[Path, ...]:
    return tuple(map(Path, device_paths(devices.facts.inventory, devices.bdfs, _backend(found))))


def _backend(found: KataRequestFacts) -> Backend:
    return "group" if found.request.vfio == "group" else "iommufd"


def plan_configuration(launch: Launch, guest: Guest) -> Step:
    """Write the configuration, before the container starts."""
    made = guest.made
    said = f"; the lint says: {', '.join(finding.id for finding in made.findings)}" if made.findings else ""
    return Step(f"render the configuration for Kata {guest.request.release.title}: {made.base.source} with "
                f"{len(made.changes)} changes{said}",
                (p.MakeDir(launch.paths.kata.parent), p.WriteFile(launch.paths.kata, made.text)))


def plan_check(launch: Launch, guest: Guest) -> Step:
    """After the start: the VM that runs must be the VM that was asked for, or everything is undone."""
    tee = launch.body.runtime.tee
    if tee == "none":
        return Step("look whether the guest is confidential", skip="NOT CONFIDENTIAL: no TEE was asked for")
    assets = guest.request.assets
    expect = ExpectTee(sandbox_name(launch.unit), tee, guest.devices, assets.qemu, assets.kernel,
                       launch.paths.evidence / "qemu.txt", pidfile=launch.paths.pidfile)
    return Step(f"look whether the guest really runs in {tee}", (expect,))
