"""The virtual machine of a launch by libvirt: where its files lie, and what it is made of."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from vmtool import plan as p
from vmtool.frozen import dataclass
from vmtool.instance.instance import Paths
from vmtool.libvirt.domain import Disk, Domain, Kernel, Nic, Port, kernel_words, mac_of, machine_of, tpm_of
from vmtool.libvirt.facts import DomainFacts, GuestImage
from vmtool.libvirt.initramfs_files import AGENT_PORT, LOG_PORT
from vmtool.libvirt.render import render_domain
from vmtool.libvirt.workers import end_domain
from vmtool.paths import State
from vmtool.qemu.actions import KillQemu
from vmtool.spec.runtime import Body, Spec


def domain_name(instance: str) -> str:
    """What libvirt and QEMU call an instance's domain."""
    return f"vmtool-{instance}"


@dataclass(frozen=True)
class DomainPaths:
    """Where the files of an instance's domain lie. QEMU may run as a user of its own, so they are apart from the
    instance's private ones, in directories that others can pass through but not list."""

    state: State
    name: str

    @property
    def domain(self) -> str:
        return domain_name(self.name)

    @property
    def directory(self) -> Path:
        return self.state.root / "domains" / self.name

    @property
    def run(self) -> Path:
        """Sockets; short, since a socket's path has 107 bytes and libvirt adds to it."""
        return self.state.run / f"d-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def channel(self) -> Path:
        return self.run / "agent.sock"

    def uri(self, wanted: str, system: bool) -> str:
        """The libvirt to ask: what the spec names, else the system's when it is there, else one of vmtool's own."""
        if wanted == "embed" or (wanted == "auto" and not system):
            return f"qemu:///embed?root={self.run / 'libvirt'}"
        return "qemu:///session" if wanted == "session" else "qemu:///system"


@dataclass(frozen=True)
class LaunchDomain:
    """A domain to start.

    Args:
        text: libvirt's XML; devices: PCI addresses that are passed on.
    """

    paths: DomainPaths
    uri: str
    text: str
    devices: tuple[str, ...]
    facts: DomainFacts
    image: GuestImage

    @property
    def emulated(self) -> bool:
        """Whether it runs without KVM, many times slower."""
        return not self.facts.accelerated

    @property
    def emulator(self) -> str:
        return self.facts.emulator

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def kernel(self) -> Path:
        return self.paths.directory / "kernel"

    @property
    def description(self) -> Path:
        """The file with libvirt's XML."""
        return self.paths.directory / "domain.xml"

    @property
    def end(self) -> tuple[p.Action, ...]:
        """What makes sure that neither domain nor QEMU is left; the devices are released after it."""
        return (p.run_worker(end_domain.Order(self.uri, self.paths.domain), deadline=90.0),
                KillQemu(self.paths.domain, self.emulator), p.Remove(self.paths.run))


def launch_domain(state: State, spec: Spec, facts: DomainFacts, devices: tuple[str, ...], bridge: str) -> LaunchDomain:
    """The domain that the spec amounts to; call after `check_domain` found nothing.

    Args:
        devices: addresses of what is passed on.
        bridge: of the network that the guest is on.
    """
    paths, image, settings = DomainPaths(state, spec.name), facts.known(), spec.spec.runtime.libvirt
    text = render_domain(domain_of(paths, spec.spec, facts, image, devices, bridge))
    return LaunchDomain(paths, paths.uri(settings.uri, facts.system), text, devices, facts, image)


def domain_of(paths: DomainPaths, body: Body, facts: DomainFacts, image: GuestImage, devices: tuple[str, ...],
              bridge: str) -> Domain:
    """What libvirt is asked for."""
    settings, tee, directory = body.runtime.libvirt, body.runtime.tee, paths.directory
    own = Paths(paths.state.instance(paths.name))
    words = kernel_words(facts.architecture, tee, image.target, settings.kernel_params)
    return Domain(
        name=paths.domain, title=f"vmtool instance {paths.name}", architecture=facts.architecture,
        machine=machine_of(facts.architecture, tee, settings.machine), emulator=facts.emulator,
        accelerated=facts.accelerated, memory=body.resources.memory, vcpus=math.ceil(body.resources.cpus), tee=tee,
        kernel=Kernel(directory / "kernel", directory / "initrd", words) if settings.boot == "kernel" else None,
        firmware=settings.firmware, disks=(Disk(image.path, "root"), Disk(directory / "workload.img", "workload"),
                                       Disk(directory / "model.img", "model", shared=False)),
        tpm=tpm_of(facts.architecture) if settings.tpm else "",
        nic=Nic(bridge, mac_of(paths.domain)), console=own.console, hostdevs=devices, iommufd=facts.iommufd,
        ports=(Port(AGENT_PORT, socket=paths.channel), Port(LOG_PORT, file=own.log)))
