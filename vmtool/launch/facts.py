"""Everything that a launch must know before it is planned, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtool.containerd.endpoint import choose_endpoint
from vmtool.doctor.host import HostFacts, read_host
from vmtool.image.pinned_image import read_image
from vmtool.instance.instance import Instance, read_instance, subject_of
from vmtool.launch.pipeline import launcher_of
from vmtool.machine import DeviceReader
from vmtool.models.facts import read_model, unreadable_file
from vmtool.net.after_cleanup import facts_without as network_without
from vmtool.paths import State
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import Again, Launch
from vmtool.tls.facts import read_tls_problems

if TYPE_CHECKING:
    from vmtool.gpu.launch_devices import Selection


def read_launch(reader: DeviceReader, state: State, spec: Spec, timeout: float | None = None, *,
                again: Again = "") -> tuple[Launch, HostFacts]:
    """The launch, and the host that it is checked against.

    Args:
        again: see `Launch`.
    """
    handler, path = spec.spec.runtime.handler, spec.spec.model.path
    host = read_host(reader, state.root, probe_kvm=handler != "runc")
    earlier = read_instance(state, spec.name) if state.instance(spec.name).is_dir() else None
    cleared = earlier is not None and earlier.state != "running"
    model, launcher = read_model(reader, str(path)) if path else None, launcher_of(handler)
    # What is cleared before anything is made frees what it holds of the network and of the devices.
    network = network_without(host.network, subject_of(spec.name)) if cleared else host.network
    endpoint = choose_endpoint(state, bool(host.containerd.answers))
    return Launch(
        state=state, spec=spec, launcher=launcher, network_facts=network, model=model, earlier=earlier,
        endpoint=endpoint, image=read_image(reader, state, endpoint, spec.spec.image),
        devices=choose_devices(reader, state, spec, earlier if cleared else None) if handler != "runc" else None,
        guest=launcher.read(reader, spec, model), timeout=timeout, again=again,
        tls_problems=read_tls_problems(reader, spec.spec.tls), files={
            name: (str(path), why) for name, path in spec.spec.vllm.files.items()
            if (why := unreadable_file(reader, str(path)))}), host


def choose_devices(reader: DeviceReader, state: State, spec: Spec, cleared: Instance | None) -> Selection | None:
    """The accelerators of the launch, chosen once; None when it asks for none."""
    from vmtool.gpu.after_cleanup import facts_without as gpu_without  # most launches have no device
    from vmtool.gpu.facts import read_gpu
    from vmtool.gpu.launch_devices import request_of, select_accelerators

    request = request_of(spec.spec.resources.accelerators, subject_of(spec.name))
    if request is None:
        return None
    facts = read_gpu(reader, state)
    return select_accelerators(gpu_without(facts, subject_of(spec.name)) if cleared else facts, request)
