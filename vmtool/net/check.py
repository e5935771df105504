"""Whether a requested network and attachment can be made: every problem at once, before the first change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vmtool.findings import Finding, host_lacks, refuse, wrong_input
from vmtool.frozen import dataclass
from vmtool.net import check_subnet
from vmtool.net import subnet as subnets
from vmtool.net.conflist import VERSIONS
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import Network, bridge_names, container_chains
from vmtool.spec.published_port import Publish

BRIDGE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
PACKAGE = "apt-get install containernetworking-plugins iptables iproute2"


@dataclass(frozen=True)
class NetworkRequest:
    """What is wanted of the network of one container.

    Args:
        owner: empty for `vmtool net add`; else what the network comes and goes with, such as "instance quickstart".
        shared: the network is one of `vmtool net add` and must be there already.
        bridge: None for a name of vmtool's choice.
        subnet: "auto" or CIDR.
    """

    name: str
    container_id: str
    netns_name: str
    owner: str = ""
    shared: bool = False
    bridge: str | None = None
    subnet: str = subnets.AUTO
    publish: tuple[Publish, ...] = ()


def wanted_network(facts: NetworkFacts, request: NetworkRequest) -> Network:
    """The network that fulfils the request: one that is there and agrees, or a new one.

    Raises:
        Refused: the request contradicts itself, or the network that has the name.
        NotReady: the host cannot do it. Each lists every problem.
    """
    findings = list(check_request(facts, request))
    wrong = any(item.fault == "input" for item in findings)
    refuse(findings, f"the network {request.name} cannot be made as asked for" if wrong else
           f"this host cannot give {request.name} its network", remedy(facts, request, findings))
    return facts.network(request.name) or choose_network(facts, request)


def check_request(facts: NetworkFacts, request: NetworkRequest) -> Iterator[Finding]:
    """Every reason to refuse the request on this host."""
    yield from check_syntax(facts, request)
    yield from check_host(facts)
    yield from check_network(facts, request)
    yield from check_attachment(facts, request)


def remedy(facts: NetworkFacts, request: NetworkRequest, findings: Sequence[Finding]) -> str:
    """The hint for all that `check_request` found."""
    existing = facts.network(request.name)
    if any(item.fault == "input" for item in findings):
        return "vmtool net show" if existing else "correct what is listed"
    if request.shared and not existing:
        return f"vmtool net add {request.name}"
    return PACKAGE if not facts.iptables or facts.plugins.missing else (
        "vmtool net show; use other values, or remove what is in the way")


def choose_network(facts: NetworkFacts, request: NetworkRequest) -> Network:
    """A new network; what the user left open is chosen."""
    taken = [name for name, _ in facts.links] + [bridge for item in facts.conflists for bridge in item.bridges]
    taken += [own.bridge for own in facts.ours]
    free = (name for name in bridge_names(request.name) if name not in taken)
    subnet = request.subnet
    if subnet == subnets.AUTO:
        subnet = subnets.choose_subnet(facts, seed=request.name)
    return Network(request.name, request.bridge or next(free), subnet, request.owner)


def check_syntax(facts: NetworkFacts, request: NetworkRequest) -> Iterator[Finding]:
    """What is wrong with the request on any host, or with a network of that name that was made otherwise."""
    if request.subnet != subnets.AUTO:
        yield from check_subnet.check_syntax(request.subnet)
    if request.bridge is not None and not BRIDGE.fullmatch(request.bridge):
        yield wrong_input("net.bridge.name", f"bridge {request.bridge!r}: a bridge's name is a letter and up to 14 "
                          "letters, digits or _.-")
    for number, item in enumerate(request.publish):
        if any(item.overlaps(other.host_ip, other.host_port, other.protocol) for other in request.publish[:number]):
            yield wrong_input("net.publish.twice", f"published port {item} is asked for twice")
    existing = facts.network(request.name)
    if existing:
        yield from differences(existing, request)


def differences(existing: Network, request: NetworkRequest) -> Iterator[Finding]:
    """In what a network that is there is not the requested one."""
    if request.bridge not in (None, existing.bridge):
        yield wrong_input("net.other.bridge",
                          f"the network {existing.name} is on bridge {existing.bridge}, not {request.bridge}")
    if request.subnet not in (subnets.AUTO, existing.subnet):
        yield wrong_input("net.other.subnet",
                          f"the network {existing.name} has the subnet {existing.subnet}, not {request.subnet}")
    if existing.owner and (request.shared or existing.owner != request.owner):
        yield wrong_input("net.other.owner", f"the network {existing.name} is private: it belongs to {existing.owner}")
    if not existing.owner and request.owner and not request.shared:
        yield wrong_input("net.other.shared", f"the name {existing.name} is taken by a network of `vmtool net add`; "
                          "name it in the spec to use it")


def check_host(facts: NetworkFacts) -> Iterator[Finding]:
    """What the host lacks for any network."""
    yield from (host_lacks("net.plugin", f"the CNI plugin {name} is not installed") for name in facts.plugins.missing)
    if not facts.plugins.missing and not set(VERSIONS) & set(facts.plugins.versions):
        yield host_lacks("net.plugin.version", f"the CNI plugins in {facts.plugins.directory} speak none of the "
                         f"versions {', '.join(VERSIONS)}")
    if not facts.links:
        yield host_lacks("net.iproute",
                         "ip (iproute2) does not answer, so nothing is known of the host's addresses and routes")
    if not facts.iptables:
        yield host_lacks("net.iptables", "iptables is not installed, or may not be asked (are you root?)")


def check_network(facts: NetworkFacts, request: NetworkRequest) -> Iterator[Finding]:
    """What on the host is in the way of a new network."""
    if facts.network(request.name):
        return
    if request.shared:
        yield host_lacks("net.absent", f"there is no network {request.name}")
        return
    if request.bridge is not None:
        if request.bridge in (name for name, _ in facts.links):
            kind = "bridge" if request.bridge in facts.bridges else "network device"
            addresses = ", ".join(item.cidr for item in facts.addresses if item.dev == request.bridge) or "no address"
            yield host_lacks("net.bridge.taken",
                             f"the {kind} {request.bridge} exists already ({addresses}) and is not vmtool's")
        yield from (host_lacks("net.bridge.configured", f"the bridge {request.bridge} is named in {item.path}")
                    for item in facts.conflists if request.bridge in item.bridges)
        yield from (host_lacks("net.bridge.ours", f"the bridge {request.bridge} is that of vmtool's network {own.name}")
                    for own in facts.ours if request.bridge == own.bridge)
    if request.subnet != subnets.AUTO:
        yield from check_subnet.check_overlap(facts, request.subnet)


def check_attachment(facts: NetworkFacts, request: NetworkRequest) -> Iterator[Finding]:
    """What on the host is in the way of a new attachment."""
    if request.netns_name in facts.netns:
        yield host_lacks("net.netns", f"the network namespace {request.netns_name} exists already", "ip netns list")
    chains = [chain for chain in container_chains(request.name, request.container_id) if chain in facts.chains]
    if chains:
        yield host_lacks("net.chains", f"iptables chain {chains[0][1]} of a container {request.container_id} in a "
                         f"network {request.name} exists already: another state directory has one, "
                         "or it is left from one")
    yield from check_publish(facts, request.publish)


def check_publish(facts: NetworkFacts, publish: Sequence[Publish]) -> Iterator[Finding]:
    """Which published ports cannot be had."""
    local = {item.cidr.partition("/")[0] for item in facts.addresses}
    for item in publish:
        if not item.loopback and item.host_ip != "0.0.0.0" and item.host_ip not in local:  # noqa: S104
            yield host_lacks("net.publish.address", f"published port {item}: {item.host_ip} is no address of this host")
        listeners = [f"{found.ip}:{found.port}" for found in facts.listeners
                     if item.overlaps(found.ip, found.port, "tcp")]
        if listeners:
            yield host_lacks("net.publish.listener", f"published port {item}: something listens on {listeners[0]}",
                             "ss -Htlnp")
        rules = [found for found in facts.published if item.overlaps(found.ip, found.port, found.protocol)]
        if rules:
            yield host_lacks("net.publish.rule", f"published port {item}: the iptables chain {rules[0].chain} sends it "
                             "elsewhere")
