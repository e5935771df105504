"""The plan of `vmtool net add`: a network with a namespace of its own, both named alike."""

from __future__ import annotations

from vmtool.errors import NotReady
from vmtool.findings import refuse, wrong_input
from vmtool.net.check import NetworkRequest, check_syntax, wanted_network
from vmtool.net.facts import NetworkFacts
from vmtool.net.findings import guard_findings
from vmtool.net.network import Network
from vmtool.net.plan import plan_attach, plan_network
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.spec.published_port import Publish


def plan_add(state: State, facts: NetworkFacts, name: str, bridge: str | None, subnet: str,
             publish: tuple[Publish, ...]) -> Plan:
    """What is to do; a step that says why when there is nothing.

    Raises:
        Refused: a network of that name is there and differs, or the request is malformed.
        NotReady: the host cannot do it, or what was added is no longer whole.
    """
    directory = state.network(name)
    request = NetworkRequest(name, name, name, bridge=bridge, subnet=subnet, publish=publish)
    existing = facts.network(name)
    if existing:
        require_same(facts, existing, request)
        return Plan(f"network {name}", directory, (Step(f"make the network {name}", skip="it is there"),))
    network = wanted_network(facts, request)
    return Plan(f"network {name}", directory, (
        *plan_network(state, facts, network),
        plan_attach(state, facts, network, container_id=name, netns_name=name, directory=directory / "net",
                    publish=publish)))


def require_same(facts: NetworkFacts, existing: Network, request: NetworkRequest) -> None:
    """Refuse a request that is not for the network that is there, or one that is only half there."""
    findings = list(check_syntax(facts, request))
    own = next((item for item in facts.attached if item.network == existing.name and not item.owner), None)
    if own and set(own.publish) != set(request.publish):
        published = ", ".join(map(str, own.publish)) or "nothing"
        findings.append(wrong_input("net.other.publish", f"the network {existing.name} publishes {published}"))
    refuse(findings, f"a network {existing.name} is there, and is not the one asked for",
           f"vmtool net show {existing.name}; vmtool net del {existing.name}")
    unguarded = own and any(item.level == "fail" for item in guard_findings(facts, existing, own))
    if own is None or own.netns not in facts.netns or existing.bridge not in facts.bridges or unguarded:
        raise NotReady(f"the network {existing.name} was added, but is not whole any more",
                       hint=f"vmtool net reset {existing.name}")
