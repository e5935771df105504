"""What every part of a launch starts from, and the two kinds of parts: a stage, and the launcher among them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vmtool.claims import Claim
from vmtool.containerd.endpoint import Endpoint
from vmtool.endpoint.client import Server
from vmtool.findings import Finding
from vmtool.frozen import dataclass
from vmtool.image.pinned_image import PinnedImage
from vmtool.instance.instance import Instance, InstanceRecord, Paths, subject_of, unit_of
from vmtool.machine import DeviceReader, Reader
from vmtool.models.facts import ModelFacts
from vmtool.net.check import NetworkRequest, choose_network
from vmtool.net.facts import NetworkFacts
from vmtool.net.launch_network import netns_name, network_request
from vmtool.net.network import Network, netns_path, result_path
from vmtool.paths import State
from vmtool.plan import Action, Step

if TYPE_CHECKING:
    from vmtool.attest.measure.guest import MeasuredGuest
    from vmtool.gpu.launch_devices import Selection
    from vmtool.models.encryption.launch_facts import EncryptedModelFacts
    from vmtool.spec.runtime import Body, Spec

Again = Literal["", "person", "watch"]
PORT = 8000


@dataclass(frozen=True)
class Launch:
    """What is asked for, and what is there for it; everything was read and chosen once.

    Args:
        image: the workload's, pinned by its digest.
        network_facts: as they are once what an earlier launch left is cleared.
        model: of a local model; None when it comes from a hub.
        earlier: the instance of the same name, in whatever state.
        devices: the chosen accelerators; None when none are passed on.
        guest: what the launcher itself read; its form is the launcher's.
        tls_problems: keys of `spec.tls`, and what is wrong there.
        encrypted: what is known of an encrypted model; None for one in clear.
        files: what is wrong with the files that the spec's `vllm` names, by the key below it.
        timeout: seconds until /health must answer, instead of the spec's or the computed one.
        again: who starts it again with its own spec, and so with the key that it had; empty for a new launch.
        slot: see `vmtool.instance.instance.Paths`.
        replaces: the instance as it runs now, beside which the new one is launched; None when nobody serves.
    """

    state: State
    spec: Spec
    launcher: Launcher
    endpoint: Endpoint
    image: PinnedImage
    network_facts: NetworkFacts
    model: ModelFacts | None
    earlier: Instance | None
    devices: Selection | None = None
    guest: Any = None
    timeout: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    tls_problems: tuple[tuple[str, str], ...] = ()
    again: Again = ""
    encrypted: EncryptedModelFacts | None = None
    slot: str = ""
    replaces: Instance | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def body(self) -> Body:
        return self.spec.spec

    @property
    def unit(self) -> str:
        """How what is launched is called on the machine: its container and guest."""
        return unit_of(self.name, self.slot)

    @property
    def owner(self) -> str:
        """How the instance is called in journals, and as an owner of networks and devices."""
        return subject_of(self.name)

    @property
    def directory(self) -> Path:
        return self.state.instance(self.name)

    @property
    def paths(self) -> Paths:
        return Paths(self.directory, self.slot)

    @property
    def manage(self) -> int:
        """The container's port for the host alone."""
        return self.body.manage_port

    @property
    def netns(self) -> str:
        """The name of its network namespace."""
        return netns_name(self.unit)

    @property
    def model_size(self) -> int:
        """Bytes; of a model that is yet to be fetched, a size that gives it half an hour."""
        return self.model.size if self.model else 180 << 30

    @cached_property
    def made(self) -> Any:
        """What the launcher starts, in its own form, worked out once; call after the checks found nothing."""
        return self.launcher.make(self)

    @cached_property
    def network_request(self) -> NetworkRequest:
        return network_request(self.spec, self.network_facts, self.unit)

    @cached_property
    def network(self) -> Network:
        """The network: one that is there, or a new one; call after the checks found nothing.

        Raises:
            NotReady: no subnet is free.
        """
        request = self.network_request
        return self.network_facts.network(request.name) or choose_network(self.network_facts, request)

    @cached_property
    def record(self) -> InstanceRecord:
        """What instance.json will hold."""
        body, port = self.body, self.body.network.ports[0] if self.body.network.ports else None
        host = "127.0.0.1" if port and port.host_ip == "0.0.0.0" else port.host_ip if port else ""  # noqa: S104
        return InstanceRecord(
            name=self.name, digest=digest(self.spec), handler=body.runtime.handler, tee=body.runtime.tee,
            image=self.image.reference, image_digest=self.image.digest, image_chain=self.image.chain,
            image_origin=self.image.origin, model=body.model.name, socket=str(self.endpoint.socket),
            private=self.endpoint.private, host=host, port=port.host_port if port else PORT,
            netns=str(netns_path(self.netns)), result=str(result_path(self.paths.network)),
            memory=body.resources.memory, manage=self.manage,
            tls=body.tls.on, client_certificate=bool(body.tls.clients),
            devices=self.devices.bdfs if self.devices else (),
            details=self.launcher.details(self), slot=self.slot)

    @property
    def server(self) -> Server:
        """Where the server is asked until the launch is done: beside another one it is not published yet."""
        record = self.record
        return Server("", container_port(self.body), Path(record.result), record.trust) if self.replaces else (
            record.server)

    def inherit(self, step: Step, mark: Action) -> Step:
        """A step of what the old one made, and the new one needs as well: with the undo that is on record.

        Args:
            mark: is in that undo.
        """
        entries = self.replaces.journal.entries if self.replaces else ()
        found = next((entry for entry in entries if mark in entry.undo), None)
        return replace(step, undo=found.undo, inherited=True) if found else step


def container_port(body: Body) -> int:
    """Where the front listens inside the container."""
    return body.network.ports[0].container_port if body.network.ports else PORT


class Stage:
    """A part of a launch. What it does not do is left as it is here.

    Attributes:
        outlives_the_process: its claims hold also of an instance whose process is gone.
    """

    outlives_the_process = False

    def check(self, launch: Launch) -> Iterator[Finding]:
        """Reasons not to launch."""
        return iter(())

    def prepare(self, launch: Launch) -> Iterator[Step]:
        """What changes nothing but vmtool's own files, and may take long: done before anything of the host's is
        touched."""
        return iter(())

    def steps(self, launch: Launch) -> Iterator[Step]:
        """What changes the host, in the order of the stages."""
        return iter(())

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        """What is verified of an instance that runs; with `whole` also what takes its time."""
        return iter(())

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[Step]:
        """What of an instance of this name is on the machine, whoever remembers it: steps in the order of a launch,
        each named by what was found, whose undo removes it.

        Args:
            slot: see `vmtool.instance.instance.Paths`; what both slots have is found in the first.
        """
        return iter(())


class Launcher(Stage):
    """The stage that starts the workload, one for each handler.

    Attributes:
        no_exec: why nobody may run a command inside; empty when one may.
        makes_measured_files: the launch makes some of what is measured of its guest.
    """

    no_exec = ""
    makes_measured_files = False

    def read(self, reader: DeviceReader, spec: Spec, model: ModelFacts | None) -> Any:
        """What `Launch.guest` is: this launcher's own facts."""
        return None

    def make(self, launch: Launch) -> Any:
        """What `Launch.made` is."""
        return None

    def hand_over(self, launch: Launch) -> Iterator[Step]:
        """The keys: after everything of `before_key` was found proven."""
        return iter(())

    def before_key(self, reader: Reader, instance: Instance) -> Iterator[Claim]:
        """What is verified before the workload gets its keys."""
        yield from self.claims(reader, instance, whole=False)

    def init_data(self, launch: Launch) -> str:
        """The text that its guest is made with, and that its TEE binds evidence to; empty for none."""
        return ""

    def measured(self, launch: Launch) -> MeasuredGuest | None:
        """What of its guest is measured; None when it makes none. Its files are there after `measured_files`."""
        return None

    def measured_files(self, launch: Launch) -> Iterator[Step]:
        """The steps of the launch that make what is measured."""
        return iter(())

    def details(self, launch: Launch) -> Mapping[str, str]:
        """What instance.json keeps for this launcher's own claims."""
        return {}

    def slowdown(self, launch: Launch) -> int:
        """How many times longer the workload takes than on the bare processor."""
        return 1

    def left(self, reader: Reader, instance: Instance) -> Iterator[Claim]:
        """What an instance whose process is gone must not have left."""
        return iter(())

    def end_politely(self, state: State, instance: Instance) -> tuple[Action, ...]:
        """Ask the workload to end."""
        raise NotImplementedError

    def end_by_force(self, instance: Instance) -> tuple[Action, ...]:
        """End it."""
        raise NotImplementedError


# Keys that came after the first launches: while they say nothing they are no part of the digest.
LATER = ("model.trust_remote_code", "model.encryption", "model.encryption.manifest", "vllm.files", "vllm.allow",
         "timeouts.drain", "runtime.libvirt.tpm", "runtime.libvirt.device_tree", "restart", "strict", "tls", "metrics")


def digest(spec: Spec) -> str:
    """SHA-256 of the spec's content, however the file was written; that of an earlier version's spec stays the same."""
    unsaid: dict[str, Any] = {}
    for key in LATER:
        *outer, name = key.split(".")
        section, place = spec.spec, unsaid
        for part in outer:
            section, place = getattr(section, part), place.setdefault(part, {})
        if section is None:
            continue  # it is left out as a whole
        value = getattr(section, name)
        if not value or value == type(section).model_fields[name].default:
            place[name] = True
    return hashlib.sha256(spec.model_dump_json(exclude={"spec": unsaid}).encode()).hexdigest()


def earlier_digest(spec: Spec) -> str:
    """The digest that an earlier vmtool kept of it: what said nothing of `restart.policy` was launched with on-failure
    then, and says so."""
    return digest(_unsaid(spec) if spec.spec.restart.policy == "on-failure" else spec)


def as_launched(spec: Spec, kept: str) -> Spec:
    """The spec that an instance has written down, by the digest that was kept of it: what an earlier vmtool launched
    without `restart.policy` is restarted after every end, as it was then."""
    return _unsaid(spec) if kept == earlier_digest(spec) != digest(spec) else spec


def _unsaid(spec: Spec) -> Spec:
    restart = spec.spec.restart
    unsaid = restart.model_copy(update={"policy": type(restart).model_fields["policy"].default})
    return spec.model_copy(update={"spec": spec.spec.model_copy(update={"restart": unsaid})})
