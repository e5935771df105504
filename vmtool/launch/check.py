"""Whether a spec can be launched on this host: every problem at once, before the first change."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.doctor import diagnose
from vmtool.errors import NotReady
from vmtool.findings import Finding, failing, from_error, host_lacks, refuse, wrong_input
from vmtool.gpu.launch_devices import Selection
from vmtool.instance.instance import subject_of
from vmtool.kata.launcher import check_guest
from vmtool.launch.facts import LaunchFacts
from vmtool.libvirt.launch_check import check_domain
from vmtool.models.facts import ModelFacts
from vmtool.net.check import Wish, choose_network, remedy
from vmtool.net.check import check_request as check_wish
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import Network
from vmtool.serving.arguments import refusal
from vmtool.spec.runtime import Body, Spec


def check_launch(spec: Spec, facts: LaunchFacts, chosen: Selection | None) -> Network:
    """The network that the launch will have.

    Args:
        chosen: its accelerators.

    Raises:
        Refused: the spec cannot be launched anywhere as it is.
        NotReady: this host cannot launch it. Each lists every problem.
    """
    on_host, body = facts.host.network, spec.spec
    wish = network_wish(spec, on_host)
    own = [*check_request(body), *(check_model(body, facts.model) if facts.model else ()), *check_host(body, facts)]
    own += check_guest(facts.survey, chosen) if facts.survey else ()
    own += check_domain(spec, facts.domain, chosen) if facts.domain else ()
    network, about_network = _network(on_host, wish)
    every = sorted(failing([*own, *about_network]), key=lambda item: item.fault == "host")
    hint = f"vmtool doctor --for {body.runtime.handler} --tee {body.runtime.tee}"
    if not failing(own):
        hint = remedy(on_host, wish, about_network)
    elif any(item.fault == "input" for item in every):
        hint = "correct the spec, then look again with: vmtool plan SPEC"
    refuse(every, f"{spec.name} cannot be launched", hint)
    return network or choose_network(on_host, wish)


def _network(facts: NetworkFacts, wish: Wish) -> tuple[Network | None, list[Finding]]:
    """The network that fulfils the wish, and the reasons against it."""
    findings = list(check_wish(facts, wish))
    if failing(findings):
        return None, findings
    try:
        return facts.network(wish.name) or choose_network(facts, wish), findings
    except NotReady as error:
        return None, [from_error("net.subnet.none-free", error)]


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


def check_request(body: Body) -> Iterator[Finding]:
    """What is wrong with the spec on any host."""
    if body.runtime.tee == "none" and not body.allow_unconfidential:
        yield wrong_input("launch.unconfidential", "spec.runtime.tee is none, so this launch would not be "
                          "confidential: name a TEE, or set spec.allow_unconfidential: true")
    if body.runtime.handler == "runc" and (body.resources.accelerators.count or body.resources.accelerators.bdf):
        yield wrong_input("launch.accelerators", "runc passes no GPU on: use kata or libvirt",
                          place="spec.resources.accelerators")
    if len({port.container_port for port in body.network.ports}) > 1:
        yield wrong_input("launch.ports", "the container serves on one port, so publish that one only",
                          place="spec.network.publish")
    if body.vllm.args and body.model.engine != "vllm":
        yield wrong_input("launch.engine", f"arguments for vLLM, but spec.model.engine is {body.model.engine}",
                          place="spec.vllm.args")
    if problem := refusal(body.vllm.args):
        yield wrong_input("launch.arguments", problem, place="spec.vllm.args")
    for path in (body.model.path, body.vllm.api_key_file):
        if path and set(str(path)) & set(",:\n\0"):
            yield wrong_input("launch.path",
                              f"{str(path)!r}: a path with a comma, colon, line break or zero byte cannot be mounted")


def check_model(body: Body, model: ModelFacts) -> Iterator[Finding]:
    """What is wrong with the model's directory."""
    place = "spec.model.path"
    if not model.files:
        yield wrong_input("model.empty", f"{model.path} is no directory with files in it", place=place)
        return
    if not model.architecture:
        yield wrong_input("model.config", f"{model.path}/config.json is missing or names no architecture", place=place)
    if not any(name.endswith((".safetensors", ".bin", ".gguf")) for name in model.files):
        yield wrong_input("model.weights", f"{model.path} holds no weights (*.safetensors)", place=place)
    if model.outside:
        yield wrong_input("model.links", f"{', '.join(model.outside[:3])} in {model.path} link out of it, where the "
                          "container sees nothing", "copy the directory with its links resolved: cp -rL", place)
    if model.unreadable:
        yield wrong_input("model.unreadable", f"the container's user cannot read {', '.join(model.unreadable[:3])} in "
                          f"{model.path}", f"chmod -R o+rX {model.path}", place)


def check_host(body: Body, facts: LaunchFacts) -> Iterator[Finding]:
    """What the host lacks: doctor's failures, and what the spec asks for beyond it."""
    yield from failing(diagnose(facts.host, body.runtime.handler, body.runtime.tee))
    total = facts.host.memory.total
    if total is not None and body.resources.memory > total:
        yield host_lacks("host.memory", f"{body.resources.memory >> 20} MiB, but this host has {total >> 20} MiB",
                         place="spec.resources.memory")
    if body.resources.cpus > (facts.host.cpu.cores or body.resources.cpus):
        yield host_lacks("host.cpus", f"{body.resources.cpus:g}, but this host has {facts.host.cpu.cores}",
                         place="spec.resources.cpus")
