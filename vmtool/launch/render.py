"""What the `render` commands show of a launch: the domain and the network that `vmtool run` would make."""

from __future__ import annotations

from dataclasses import dataclass

from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.findings import refuse
from vmtool.launch.check import check_launch, network_wish
from vmtool.launch.facts import LaunchFacts
from vmtool.libvirt.facts import DomainFacts, Problem
from vmtool.libvirt.launch_check import ONLY_RENDERED, vm_problems
from vmtool.libvirt.launch_domain import devices_of, vm_of
from vmtool.net.check import check_syntax, choose_network
from vmtool.net.facts import NetworkFacts
from vmtool.net.plan import conflist_text
from vmtool.paths import State
from vmtool.spec.runtime import Spec


@dataclass(frozen=True)
class Rendering:
    """A domain.

    Args:
        text: libvirt's XML.
        stops: why `vmtool run` would not start it here and now; nothing of it shows in the text.
    """

    text: str
    stops: tuple[str, ...]


def render_launch(state: State, spec: Spec, facts: LaunchFacts) -> Rendering:
    """The domain as `vmtool.launch.pipeline.plan_launch` has it in its plan.

    Raises:
        Refused: the spec is wrong, or is not for libvirt.
        NotReady: this host lacks what the description names: the emulator, a device. Each lists every problem.
    """
    if facts.domain is None:
        raise Refused(f"spec.runtime.handler: {spec.spec.runtime.handler} has no domain",
                      hint="write handler: libvirt" + ("; or: vmtool kata render SPEC" if facts.survey else ""))
    network = facts.host.network
    wish = network_wish(spec, network)
    every: list[Problem] = [*vm_problems(spec, facts.domain, facts.gpu),
                            *((Refused, item.text) for item in check_syntax(network, wish))]
    found = {text: kind for kind, text in every if text != ONLY_RENDERED}
    refused = any(issubclass(kind, Refused) for kind in found.values())
    if refused or not _nameable(spec, facts, facts.domain):
        raise (Refused if refused else NotReady)(
            f"{spec.name} gives no domain", details=list(found), hint="correct the spec" if refused else
            f"vmtool doctor --for libvirt --tee {spec.spec.runtime.tee}")
    bridge = (network.network(wish.name) or choose_network(network, wish)).bridge
    return Rendering(vm_of(state, spec, facts.domain, facts.gpu, bridge).text, _stops(spec, facts))


def render_network(state: State, spec: Spec, facts: NetworkFacts) -> str:
    """The configuration list of the spec's network: of the one that is there, or of the one that would be made.

    Raises:
        Refused: the spec contradicts itself, or the network that has the name.
    """
    wish = network_wish(spec, facts)
    refuse(check_syntax(facts, wish), f"the network {wish.name} cannot be made as asked for", "correct the spec")
    return conflist_text(state, facts, facts.network(wish.name) or choose_network(facts, wish))


def _nameable(spec: Spec, facts: LaunchFacts, domain: DomainFacts) -> bool:
    """Whether all is known that the description names."""
    try:
        devices_of(spec, facts.gpu)
    except VmtoolError:
        return False
    return bool(domain.image and domain.emulator)


def _stops(spec: Spec, facts: LaunchFacts) -> tuple[str, ...]:
    if facts.earlier and facts.earlier.state == "running":
        return (f"{spec.name} runs already",)
    try:
        check_launch(spec, facts)
    except VmtoolError as error:
        return error.details
    return ()
