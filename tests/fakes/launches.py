"""Launches for tests: a spec, and what is found for it, without a machine that is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.fakes.machine.containers import chain_of, digest_of
from vmtool.containerd.endpoint import choose_endpoint
from vmtool.doctor.host import HostFacts
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.launch_devices import Selection, request_of, select_accelerators
from vmtool.image.pinned_image import PinnedImage
from vmtool.image.reference import full_reference
from vmtool.instance.instance import Instance, subject_of
from vmtool.launch.stages import launcher_of
from vmtool.models.encryption.launch_facts import EncryptedModelFacts
from vmtool.models.facts import ModelFacts
from vmtool.paths import State
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import Launch


@dataclass(frozen=True)
class Found:
    """What `vmtool.launch.facts.read_launch` would read; `guest` is the launcher's own."""

    host: HostFacts
    model: ModelFacts | None
    earlier: Instance | None
    guest: Any = None
    gpu: GpuFacts | None = None
    image: PinnedImage | None = None
    encrypted: EncryptedModelFacts | None = None


def pinned(name: str) -> PinnedImage:
    """An image that is there, as a launch must find it."""
    reference = full_reference(name)
    digest = digest_of(reference)
    return PinnedImage(reference, digest, digest, origin="imported by vmtool", chain=chain_of(reference), user="65532")


def launched(state: State, spec: Spec, found: Found, timeout: float | None = None) -> tuple[Launch, HostFacts]:
    """What `plan_launch` and `render_launch` take."""
    return Launch(
        state=state, spec=spec, launcher=launcher_of(spec.spec.runtime.handler), network_facts=found.host.network,
        endpoint=choose_endpoint(state, bool(found.host.containerd.answers)), model=found.model,
        image=found.image or pinned(spec.spec.image), earlier=found.earlier,
        devices=chosen_of(spec, found.gpu), guest=found.guest, timeout=timeout, encrypted=found.encrypted), found.host


def chosen_of(spec: Spec, gpu: GpuFacts | None) -> Selection | None:
    """The accelerators that the spec asks for."""
    wanted = request_of(spec.spec.resources.accelerators, subject_of(spec.name))
    return select_accelerators(gpu, wanted) if wanted and gpu else None
