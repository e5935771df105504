"""What the `render` commands show of a launch: the domain and the network that `vmtool run` would make."""

from __future__ import annotations

from dataclasses import dataclass

from vmtool.errors import Refused, VmtoolError
from vmtool.findings import failing, refuse
from vmtool.gpu.launch_devices import Selection
from vmtool.launch.check import check_launch, network_wish
from vmtool.launch.facts import LaunchFacts, choose_devices
from vmtool.libvirt.launch_check import ONLY_RENDERED, check_domain
from vmtool.libvirt.launch_domain import vm_of
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
    network, chosen = facts.host.network, choose_devices(spec, facts.gpu)
    wish = network_wish(spec, network)
    found = failing(item for item in (*check_domain(spec, facts.domain, chosen), *check_syntax(network, wish))
                    if item.id != ONLY_RENDERED)
    wrong = any(item.fault == "input" for item in found)
    # What the host lacks keeps the domain from running, and only some of it from being described.
    nameable = facts.domain.image and facts.domain.emulator and not (chosen and failing(chosen.findings))
    if wrong or not nameable:
        refuse(found, f"{spec.name} gives no domain", "correct the spec" if wrong else
               f"vmtool doctor --for libvirt --tee {spec.spec.runtime.tee}")
    bridge = (network.network(wish.name) or choose_network(network, wish)).bridge
    made = vm_of(state, spec, facts.domain, chosen.bdfs if chosen else (), bridge)
    return Rendering(made.text, _stops(spec, facts, chosen))


def render_network(state: State, spec: Spec, facts: NetworkFacts) -> str:
    """The configuration list of the spec's network: of the one that is there, or of the one that would be made.

    Raises:
        Refused: the spec contradicts itself, or the network that has the name.
    """
    wish = network_wish(spec, facts)
    refuse(check_syntax(facts, wish), f"the network {wish.name} cannot be made as asked for", "correct the spec")
    return conflist_text(state, facts, facts.network(wish.name) or choose_network(facts, wish))


def _stops(spec: Spec, facts: LaunchFacts, chosen: Selection | None) -> tuple[str, ...]:
    if facts.earlier and facts.earlier.state == "running":
        return (f"{spec.name} runs already",)
    try:
        check_launch(spec, facts, chosen)
    except VmtoolError as error:
        return error.details
    return ()
