"""The network of a launch: what its spec wants, and the configuration that it amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtool.findings import refuse
from vmtool.instance.instance import subject_of
from vmtool.net.check import NetworkRequest, check_syntax, choose_network
from vmtool.net.facts import NetworkFacts
from vmtool.net.plan import conflist_text
from vmtool.paths import State

if TYPE_CHECKING:
    from vmtool.spec.runtime import Spec


def network_request(spec: Spec, facts: NetworkFacts, unit: str = "") -> NetworkRequest:
    """What the spec requests of its network: one of `vmtool net add` when it names such a one, else its own.

    Args:
        unit: how what is launched is called on the machine, when that is not the instance's name.
    """
    unit = unit or spec.name
    body = spec.spec.network
    existing = facts.network(body.name) if body.name else None
    return NetworkRequest(body.name or spec.name, container_id=unit, netns_name=netns_name(unit),
                          owner=subject_of(spec.name), shared=bool(existing and not existing.owner),
                          bridge=body.bridge, subnet=body.subnet, publish=spec.spec.published)


def netns_name(unit: str) -> str:
    """The network namespace of what is called so on the machine."""
    return f"vmtool-{unit}"


def render_network(state: State, spec: Spec, facts: NetworkFacts) -> str:
    """The configuration list of the spec's network: of the one that is there, or of the one that would be made.

    Raises:
        Refused: the spec contradicts itself, or the network that has the name.
    """
    request = network_request(spec, facts)
    refuse(check_syntax(facts, request), f"the network {request.name} cannot be made as asked for", "correct the spec")
    return conflist_text(state, facts, facts.network(request.name) or choose_network(facts, request))
