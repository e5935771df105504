"""Whether a spec can be launched on this host: every problem at once, before the first change."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.doctor import diagnose
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.instance.instance import subject_of
from vmtool.kata.launcher import guest_problems
from vmtool.launch.facts import LaunchFacts
from vmtool.libvirt.launch_check import vm_problems
from vmtool.models.facts import ModelFacts
from vmtool.net.check import Wish, wanted_network
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import Network
from vmtool.serving.arguments import refusal
from vmtool.spec.runtime import Body, Spec


def check_launch(spec: Spec, facts: LaunchFacts) -> Network:
    """The network that the launch will have.

    Raises:
        Refused: the spec cannot be launched anywhere as it is.
        NotReady: this host cannot launch it. Each lists every problem.
    """
    refused = [*wish_problems(spec.spec), *(model_problems(spec.spec, facts.model) if facts.model else ())]
    missing = [*host_problems(spec.spec, facts)]
    for kind, problem in _guest_problems(spec, facts):
        (refused if issubclass(kind, Refused) else missing).append(problem)
    missing = list(dict.fromkeys(missing))
    network, network_error = None, None
    try:
        network = wanted_network(facts.host.network, network_wish(spec, facts.host.network))
    except VmtoolError as error:
        network_error = error
        (refused if isinstance(error, Refused) else missing).extend(error.details or (error.message,))
    if network and not refused and not missing:
        return network
    worst = Refused if refused else NotReady
    purpose = f"vmtool doctor --for {spec.spec.runtime.handler} --tee {spec.spec.runtime.tee}"
    only_network = network_error and len(network_error.details) == len(refused) + len(missing)
    hint = network_error.hint if network_error and only_network else (
        "correct the spec, then look again with: vmtool plan SPEC" if refused else purpose)
    raise worst(f"{spec.name} cannot be launched", details=refused + missing, hint=hint)


def _guest_problems(spec: Spec, facts: LaunchFacts) -> Iterator[tuple[type[VmtoolError], str]]:
    if facts.survey:
        yield from guest_problems(spec, facts.survey, facts.gpu)
    if facts.domain:
        yield from vm_problems(spec, facts.domain, facts.gpu)


def network_wish(spec: Spec, facts: NetworkFacts) -> Wish:
    """What the spec wants of its network: one of `vmtool net add` when it names such a one, else its own."""
    wish = spec.spec.network
    there = facts.network(wish.name) if wish.name else None
    return Wish(wish.name or spec.name, container_id=spec.name, netns_name=netns_name(spec.name),
                owner=subject_of(spec.name), shared=bool(there and not there.owner), bridge=wish.bridge,
                subnet=wish.subnet, publish=wish.ports)


def netns_name(instance: str) -> str:
    """The network namespace of an instance."""
    return f"vmtool-{instance}"


def wish_problems(body: Body) -> Iterator[str]:
    """What is wrong with the spec on any host."""
    if body.runtime.tee == "none" and not body.allow_unconfidential:
        yield ("spec.runtime.tee is none, so this launch would not be confidential: name a TEE, or set "
               "spec.allow_unconfidential: true")
    if body.runtime.handler == "runc" and (body.resources.accelerators.count or body.resources.accelerators.bdf):
        yield "spec.resources.accelerators: runc passes no GPU on: use kata or libvirt"
    if len({port.container_port for port in body.network.ports}) > 1:
        yield "spec.network.publish: the container serves on one port, so publish that one only"
    if body.vllm.args and body.model.engine != "vllm":
        yield f"spec.vllm.args: arguments for vLLM, but spec.model.engine is {body.model.engine}"
    if problem := refusal(body.vllm.args):
        yield f"spec.vllm.args: {problem}"
    for path in (body.model.path, body.vllm.api_key_file):
        if path and set(str(path)) & set(",:\n\0"):
            yield f"{str(path)!r}: a path with a comma, colon, line break or zero byte cannot be mounted"


def model_problems(body: Body, model: ModelFacts) -> Iterator[str]:
    """What is wrong with the model's directory."""
    if not model.files:
        yield f"spec.model.path: {model.path} is no directory with files in it"
        return
    if not model.architecture:
        yield f"spec.model.path: {model.path}/config.json is missing or names no architecture"
    if not any(name.endswith((".safetensors", ".bin", ".gguf")) for name in model.files):
        yield f"spec.model.path: {model.path} holds no weights (*.safetensors)"
    if model.outside:
        yield (f"spec.model.path: {', '.join(model.outside[:3])} in {model.path} link out of it, where the container "
               "sees nothing (copy the directory with its links resolved: cp -rL)")
    if model.unreadable:
        yield (f"spec.model.path: the container's user cannot read {', '.join(model.unreadable[:3])} in {model.path} "
               f"(chmod -R o+rX {model.path})")


def host_problems(body: Body, facts: LaunchFacts) -> Iterator[str]:
    """What the host lacks: doctor's failures, and what the spec asks for beyond it."""
    for finding in diagnose(facts.host, body.runtime.handler, body.runtime.tee):
        if finding.level == "fail":
            yield f"{finding.title}: {finding.detail}" + (f" ({finding.hint})" if finding.hint else "")
    total = facts.host.memory.total
    if total is not None and body.resources.memory > total:
        yield f"spec.resources.memory: {body.resources.memory >> 20} MiB, but this host has {total >> 20} MiB"
    if body.resources.cpus > (facts.host.cpu.cores or body.resources.cpus):
        yield f"spec.resources.cpus: {body.resources.cpus:g}, but this host has {facts.host.cpu.cores}"
