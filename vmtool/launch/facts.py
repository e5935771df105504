"""Everything that a launch must know about the host before it is planned, read in one go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmtool.doctor.host import HostFacts, read_host
from vmtool.gpu.after_cleanup import facts_without as gpu_without
from vmtool.gpu.facts import GpuFacts, read_gpu
from vmtool.gpu.launch_devices import Selection, select_accelerators, wish_of
from vmtool.instance.instance import Instance, read_instance, subject_of
from vmtool.kata.launcher import target_of
from vmtool.kata.request import Survey, survey
from vmtool.libvirt.facts import DomainFacts, read_domain
from vmtool.machine import DeviceReader
from vmtool.models.facts import ModelFacts, read_model
from vmtool.net.after_cleanup import facts_without as network_without
from vmtool.paths import State
from vmtool.spec.runtime import Spec


@dataclass(frozen=True)
class LaunchFacts:
    """What is there.

    Args:
        model: of a local model; None when the model comes from a hub.
        earlier: the instance of the same name, when there is one in whatever state.
        survey: what Kata would be asked for, and its files; None for other handlers.
        domain: the guest image and what belongs to it, for handler libvirt.
        gpu: the accelerators, when the spec asks for some and the handler can pass them on.
    """

    host: HostFacts
    model: ModelFacts | None
    earlier: Instance | None
    survey: Survey | None = None
    gpu: GpuFacts | None = None
    domain: DomainFacts | None = None


def read_launch(reader: DeviceReader, state: State, spec: Spec) -> LaunchFacts:
    """Look at the host, the model and what an earlier launch left."""
    path = spec.spec.model.path
    host = read_host(reader, state.root, probe_kvm=spec.spec.runtime.handler != "runc")
    earlier = read_instance(state, spec.name) if state.instance(spec.name).is_dir() else None
    handler = spec.spec.runtime.handler
    wish = wish_of(spec.spec.resources.accelerators, subject_of(spec.name)) if handler != "runc" else None
    gpu = read_gpu(reader, state) if wish else None
    if earlier and earlier.state != "running":
        # It is cleared before anything is made, so what it holds of the network and of the devices is free.
        host = replace(host, network=network_without(host.network, subject_of(spec.name)))
        gpu = gpu and gpu_without(gpu, subject_of(spec.name))
    model = read_model(reader, str(path)) if path else None
    return LaunchFacts(
        host=host,
        model=model,
        earlier=earlier,
        survey=survey(reader, spec.spec, target_of(host)) if handler == "kata" else None,
        domain=read_domain(reader, spec, host, model) if handler == "libvirt" else None,
        gpu=gpu,
    )


def choose_devices(spec: Spec, gpu: GpuFacts | None) -> Selection | None:
    """The accelerators of the launch, chosen once; None when there are none to pass on."""
    wish = wish_of(spec.spec.resources.accelerators, subject_of(spec.name))
    return select_accelerators(gpu, wish) if wish and gpu else None
