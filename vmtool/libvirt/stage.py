"""Launching with libvirt: the guest image itself boots, with the workload's image and the model as disks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.plan import plan_tee_reference
from vmtool.attest.tee_files import files_of
from vmtool.claims import Claim
from vmtool.facts.cpu import read_cpu
from vmtool.facts.kvm import read_kvm
from vmtool.findings import Finding
from vmtool.gpu.check_machine import check_mappings
from vmtool.instance.instance import Instance
from vmtool.libvirt import plan as steps
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.facts import DomainFacts, read_domain
from vmtool.libvirt.initramfs_files import KEY
from vmtool.libvirt.installed import read_hypervisor
from vmtool.libvirt.launch_check import check_domain
from vmtool.libvirt.launch_domain import LaunchDomain, domain_name, launch_domain
from vmtool.libvirt.plan_removal import removal_of_guest
from vmtool.libvirt.proof import domain_claims, machine_claims
from vmtool.libvirt.remains import read_guest_remains
from vmtool.libvirt.verity_table import is_verified
from vmtool.libvirt.workers import end_domain
from vmtool.libvirt.workers.workload_disk import disk_path
from vmtool.machine import DeviceReader, Reader
from vmtool.models.facts import ModelFacts
from vmtool.paths import State
from vmtool.plan import Action, Step, run_worker
from vmtool.proof.devices import left_claims
from vmtool.serving.gateway import GATEWAY
from vmtool.spec.runtime import Spec
from vmtool.stage.container import server_command
from vmtool.stage.launch import Launch, Launcher
from vmtool.tee.table import NONE, tee_of


class LibvirtLauncher(Launcher):
    """Makes the guest's disks, starts the domain, checks it, and gives its agent the address and the key."""

    no_exec = "its guest lets nobody run commands in it"
    makes_measured_files = True

    def read(self, reader: DeviceReader, spec: Spec, model: ModelFacts | None) -> DomainFacts:
        cpu = read_cpu(reader)
        return read_domain(reader, spec, model, cpu, read_kvm(reader, cpu), read_hypervisor(reader, cpu.arch))

    def check(self, launch: Launch) -> Iterator[Finding]:
        yield from check_domain(launch.spec, launch.guest)
        if launch.devices:
            yield from check_mappings(launch.devices.facts, tee_of(launch.body.runtime.tee),
                                      launch.body.resources.memory, "iommufd" if launch.guest.iommufd else "group")

    def make(self, launch: Launch) -> LaunchDomain:
        return launch_domain(launch.state, launch.spec, launch.guest, launch.devices.bdfs if launch.devices else (),
                             launch.network.bridge)

    def details(self, launch: Launch) -> Mapping[str, str]:
        made: LaunchDomain = launch.made
        disk = disk_path(launch.state.root / "disks", launch.image.digest, is_verified(launch.spec.spec))
        return {"program": made.emulator, "kernel": str(made.kernel), "configuration": made.digest,
                "rendered": str(made.description), "uri": made.uri, "channel": str(made.paths.channel),
                "workload": str(disk)} | ({"tpm": "swtpm"} if launch.body.runtime.libvirt.tpm else {})

    def measured(self, launch: Launch) -> MeasuredGuest:
        from vmtool.libvirt.measured import measured_guest  # launches have no need of it

        return measured_guest(launch.body, launch.made, launch.image.digest)

    def measured_files(self, launch: Launch) -> Iterator[Step]:
        if launch.body.runtime.libvirt.boot == "kernel":
            yield from self.prepare(launch)
            yield steps.plan_initrd(launch.spec, launch.made, server_command(launch, key=KEY, host=GATEWAY))

    def slowdown(self, launch: Launch) -> int:
        made: LaunchDomain = launch.made
        return steps.SLOWDOWN if made.emulated else 1

    def prepare(self, launch: Launch) -> Iterator[Step]:
        yield steps.plan_disks(launch.state, launch.spec, launch.made, launch.image, launch.endpoint)

    def steps(self, launch: Launch) -> Iterator[Step]:
        spec, made, directory = launch.spec, launch.made, launch.directory
        yield steps.plan_initrd(spec, made, server_command(launch, key=KEY, host=GATEWAY))
        if (tee := launch.body.runtime.tee) != NONE:
            yield plan_tee_reference(self.measured(launch), launch.name, files_of(launch.paths, tee))
        if launch.body.runtime.libvirt.tpm:
            yield steps.plan_reference(self.measured(launch), launch.name, directory)
        yield steps.plan_domain(spec, made, launch.network, launch.netns, directory)
        yield steps.plan_check(spec, made, directory)

    def hand_over(self, launch: Launch) -> Iterator[Step]:
        yield from steps.plan_greeting(launch.spec, launch.made, launch.directory)

    def before_key(self, reader: Reader, instance: Instance) -> Iterator[Claim]:
        # The guest's own words come with its greeting.
        yield from machine_claims(reader, instance.known(), instance.pid)

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        yield from domain_claims(reader, instance, instance.known(), whole=whole)

    def left(self, reader: Reader, instance: Instance) -> Iterator[Claim]:
        yield from left_claims(reader, instance.known(), domain_name(instance.name))

    def end_politely(self, state: State, instance: Instance) -> tuple[Action, ...]:
        channel = Path(instance.known().details["channel"])
        return (GuestRequest(channel, "stop", instance.paths.pidfile, instance.paths.console, fleeting=True),)

    def end_by_force(self, instance: Instance) -> tuple[Action, ...]:
        record = instance.known()
        return (run_worker(end_domain.Order(record.details["uri"], domain_name(record.name)), deadline=90.0),)

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[Step]:
        yield from removal_of_guest(state, read_guest_remains(reader, state, name))


LAUNCHER = LibvirtLauncher()
