"""Everything that a launch must know before it is planned, read once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vmtool.containerd.endpoint import choose_endpoint
from vmtool.doctor.host import HostFacts, read_host
from vmtool.image.pinned_image import read_image
from vmtool.instance.instance import Instance, subject_of, unit_of
from vmtool.instance.read import read_instance
from vmtool.launch.stages import launcher_of
from vmtool.machine import DeviceReader, Reader
from vmtool.models.facts import read_model, unreadable_file
from vmtool.net.after_cleanup import facts_without as network_without
from vmtool.net.after_cleanup import unpublished
from vmtool.paths import SLOTS, State
from vmtool.serving.access_list import parse as parse_access
from vmtool.spec.facts import read_own_spec
from vmtool.spec.runtime import Spec
from vmtool.spec.vllm import Vllm
from vmtool.stage.launch import Again, Launch, as_launched
from vmtool.tls.facts import read_tls_problems

if TYPE_CHECKING:
    from vmtool.gpu.launch_devices import Selection


def read_launched_spec(instance: Instance) -> Spec:
    """The spec that an instance was launched with.

    Raises:
        VmtoolError: it is not there, or another version of vmtool wrote it.
    """
    return as_launched(read_own_spec(instance.paths.spec), instance.record.digest if instance.record else "")


def read_launch(reader: DeviceReader, state: State, spec: Spec, timeout: float | None = None, *,
                again: Again = "", upgrade: bool = False) -> tuple[Launch, HostFacts]:
    """The launch, and the host that it is checked against.

    Args:
        again: see `Launch`.
        upgrade: it is launched beside the one that runs.
    """
    handler, path = spec.spec.runtime.handler, spec.spec.model.path
    host = read_host(reader, state.root, guests=handler != "runc")
    earlier = read_instance(state, spec.name) if os.path.lexists(state.instance(spec.name)) else None
    if earlier and earlier.damage:
        from vmtool.launch.commands.damage import explained  # it looks at everything that an instance may have

        raise explained(reader, state, spec.name, earlier.damage)
    cleared = earlier is not None and earlier.state != "running"
    slot = earlier.paths.slot if earlier else ""
    if upgrade:
        slot = next(other for other in SLOTS if other != slot)
    model, launcher = read_model(reader, str(path)) if path else None, launcher_of(handler)
    # What is cleared before anything is made frees what it holds of the network and of the devices.
    network = network_without(host.network, subject_of(spec.name)) if cleared else host.network
    if upgrade and earlier:
        network = unpublished(network, earlier.unit)
    endpoint = choose_endpoint(state, bool(host.containerd.answers))
    encryption, encrypted = spec.spec.model.encryption, None
    if encryption and path:
        from vmtool.models.encryption.launch_facts import read_encrypted  # most models are in clear

        encrypted = read_encrypted(reader, path, encryption)
    return Launch(
        state=state, spec=spec, launcher=launcher, network_facts=network, model=model, earlier=earlier,
        endpoint=endpoint, image=read_image(reader, state, endpoint, spec.spec.image),
        devices=None if handler == "runc" else choose_devices(reader, state, spec, unit_of(spec.name, slot),
                                                              earlier if cleared else None),
        guest=launcher.read(reader, spec, model), timeout=timeout, again=again, encrypted=encrypted,
        slot=slot, replaces=earlier if upgrade else None,
        tls_problems=read_tls_problems(reader, spec.spec.tls), files=read_file_problems(reader, spec.spec.vllm)), host


def read_file_problems(reader: Reader, vllm: Vllm) -> dict[str, str]:
    """Key of `spec.vllm` -> what is wrong with the file that it names; a line of keys is named by its number alone."""
    found = {f"files.{name}": f"{path} {why}" for name, path in vllm.files.items()
             if (why := unreadable_file(reader, str(path)))}
    if vllm.api_key_file:
        text = reader.text(str(vllm.api_key_file))
        try:
            parse_access((text or "").encode(errors="replace"), str(vllm.api_key_file))
        except ValueError as error:
            found["api_key_file"] = str(error) if text is not None else f"{vllm.api_key_file}: no file to be read"
    return found


def choose_devices(reader: DeviceReader, state: State, spec: Spec, unit: str,
                   cleared: Instance | None) -> Selection | None:
    """The accelerators of the launch, chosen once; None when it asks for none."""
    from vmtool.gpu.after_cleanup import facts_without as gpu_without  # most launches have no device
    from vmtool.gpu.facts import read_gpu
    from vmtool.gpu.launch_devices import request_of, select_accelerators

    request = request_of(spec.spec.resources.accelerators, subject_of(unit))
    if request is None:
        return None
    facts = read_gpu(reader, state)
    return select_accelerators(gpu_without(facts, subject_of(unit)) if cleared else facts, request)
