"""The virtual machine of a launch by libvirt: where its files lie, and what it is made of."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from vmtool import plan as p
from vmtool.instance.instance import Paths
from vmtool.libvirt.domain import Disk, Domain, Kernel, Nic, Port, kernel_words, mac_of, machine_of
from vmtool.libvirt.facts import DomainFacts, GuestImage
from vmtool.libvirt.initramfs_files import AGENT_PORT, LOG_PORT
from vmtool.libvirt.render import render_domain
from vmtool.paths import State
from vmtool.qemu.actions import KillQemu
from vmtool.spec.runtime import Body, Spec

PROGRAM = (sys.executable, "-I", "-m", "vmtool.libvirt.workers.domains")


def domain_name(instance: str) -> str:
    """What libvirt and QEMU call an instance's domain."""
    return f"vmtool-{instance}"


@dataclass(frozen=True)
class Place:
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
class Vm:
    """A domain to start.

    Args:
        text: libvirt's XML; devices: PCI addresses that are passed on.
    """

    place: Place
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
        return self.place.directory / "kernel"

    @property
    def end(self) -> tuple[p.Action, ...]:
        """What makes sure that neither domain nor QEMU is left; the devices are given back after it."""
        return (p.Run((*PROGRAM, self.uri, "end", self.place.domain), deadline=90.0),
                KillQemu(self.place.domain, self.emulator), p.Remove(self.place.run))


def vm_of(state: State, spec: Spec, facts: DomainFacts, devices: tuple[str, ...], bridge: str) -> Vm:
    """The domain that the spec amounts to; call after `check_domain` found nothing.

    Args:
        devices: addresses of what is passed on.
        bridge: of the network that the guest is on.
    """
    place, image, wish = Place(state, spec.name), facts.known(), spec.spec.runtime.libvirt
    text = render_domain(domain_of(place, spec.spec, facts, image, devices, bridge))
    return Vm(place, place.uri(wish.uri, facts.system), text, devices, facts, image)


def domain_of(place: Place, body: Body, facts: DomainFacts, image: GuestImage, devices: tuple[str, ...],
              bridge: str) -> Domain:
    """What libvirt is asked for."""
    wish, tee, directory = body.runtime.libvirt, body.runtime.tee, place.directory
    paths = Paths(place.state.instance(place.name))
    words = kernel_words(facts.architecture, tee, image.target, wish.kernel_params)
    return Domain(
        name=place.domain, title=f"vmtool instance {place.name}", architecture=facts.architecture,
        machine=machine_of(facts.architecture, tee, wish.machine), emulator=facts.emulator,
        accelerated=facts.accelerated, memory=body.resources.memory, vcpus=math.ceil(body.resources.cpus), tee=tee,
        kernel=Kernel(directory / "kernel", directory / "initrd", words) if wish.boot == "kernel" else None,
        firmware=wish.firmware, disks=(Disk(image.path, "root"), Disk(directory / "workload.img", "workload"),
                                       Disk(directory / "model.img", "model", shared=False)),
        nic=Nic(bridge, mac_of(place.domain)), console=paths.console, hostdevs=devices,
        ports=(Port(AGENT_PORT, socket=place.channel), Port(LOG_PORT, file=paths.log)))
