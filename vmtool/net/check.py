"""Whether a wished network and attachment can be made: every problem at once, before the first change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmtool.findings import Finding, host_lacks, refuse, wrong_input
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


def wanted_network(facts: NetworkFacts, wish: NetworkRequest) -> Network:
    """The network that fulfils the wish: one that is there and agrees, or a new one.

    Raises:
        Refused: the wish contradicts itself, or the network that has the name.
        NotReady: the host cannot do it. Each lists every problem.
    """
    findings = list(check_request(facts, wish))
    wrong = any(item.fault == "input" for item in findings)
    refuse(findings, f"the network {wish.name} cannot be made as asked for" if wrong else
           f"this host cannot give {wish.name} its network", remedy(facts, wish, findings))
    return facts.network(wish.name) or choose_network(facts, wish)


def check_request(facts: NetworkFacts, wish: NetworkRequest) -> Iterator[Finding]:
    """Every reason to refuse the wish on this host."""
    yield from check_syntax(facts, wish)
    yield from check_host(facts)
    yield from check_network(facts, wish)
    yield from check_attachment(facts, wish)


def remedy(facts: NetworkFacts, wish: NetworkRequest, findings: Sequence[Finding]) -> str:
    """The hint for all that `check_request` found."""
    there = facts.network(wish.name)
    if any(item.fault == "input" for item in findings):
        return "vmtool net show" if there else "correct what is listed"
    if wish.shared and not there:
        return f"vmtool net add {wish.name}"
    return PACKAGE if not facts.iptables or facts.plugins.missing else (
        "vmtool net show; use other values, or remove what is in the way")


def choose_network(facts: NetworkFacts, wish: NetworkRequest) -> Network:
    """A new network; what the user left open is chosen."""
    taken = [name for name, _ in facts.links] + [bridge for item in facts.conflists for bridge in item.bridges]
    taken += [own.bridge for own in facts.ours]
    free = (name for name in bridge_names(wish.name) if name not in taken)
    subnet = wish.subnet
    if subnet == subnets.AUTO:
        subnet = subnets.choose_subnet(facts, seed=wish.name)
    return Network(wish.name, wish.bridge or next(free), subnet, wish.owner)


def check_syntax(facts: NetworkFacts, wish: NetworkRequest) -> Iterator[Finding]:
    """What is wrong with the wish on any host, or with a network of that name that was made otherwise."""
    if wish.subnet != subnets.AUTO:
        yield from check_subnet.check_syntax(wish.subnet)
    if wish.bridge is not None and not BRIDGE.fullmatch(wish.bridge):
        yield wrong_input("net.bridge.name", f"bridge {wish.bridge!r}: a bridge's name is a letter and up to 14 "
                          "letters, digits or _.-")
    for number, item in enumerate(wish.publish):
        if any(item.overlaps(other.host_ip, other.host_port, other.protocol) for other in wish.publish[:number]):
            yield wrong_input("net.publish.twice", f"published port {item} is asked for twice")
    there = facts.network(wish.name)
    if there:
        yield from differences(there, wish)


def differences(there: Network, wish: NetworkRequest) -> Iterator[Finding]:
    """In what a network that is there is not the wished one."""
    if wish.bridge not in (None, there.bridge):
        yield wrong_input("net.other.bridge",
                          f"the network {there.name} is on bridge {there.bridge}, not {wish.bridge}")
    if wish.subnet not in (subnets.AUTO, there.subnet):
        yield wrong_input("net.other.subnet",
                          f"the network {there.name} has the subnet {there.subnet}, not {wish.subnet}")
    if there.owner and (wish.shared or there.owner != wish.owner):
        yield wrong_input("net.other.owner", f"the network {there.name} is private: it belongs to {there.owner}")
    if not there.owner and wish.owner and not wish.shared:
        yield wrong_input("net.other.shared", f"the name {there.name} is taken by a network of `vmtool net add`; "
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


def check_network(facts: NetworkFacts, wish: NetworkRequest) -> Iterator[Finding]:
    """What on the host is in the way of a new network."""
    if facts.network(wish.name):
        return
    if wish.shared:
        yield host_lacks("net.absent", f"there is no network {wish.name}")
        return
    if wish.bridge is not None:
        if wish.bridge in (name for name, _ in facts.links):
            kind = "bridge" if wish.bridge in facts.bridges else "network device"
            addresses = ", ".join(item.cidr for item in facts.addresses if item.dev == wish.bridge) or "no address"
            yield host_lacks("net.bridge.taken",
                             f"the {kind} {wish.bridge} exists already ({addresses}) and is not vmtool's")
        yield from (host_lacks("net.bridge.configured", f"the bridge {wish.bridge} is named in {item.path}")
                    for item in facts.conflists if wish.bridge in item.bridges)
        yield from (host_lacks("net.bridge.ours", f"the bridge {wish.bridge} is that of vmtool's network {own.name}")
                    for own in facts.ours if wish.bridge == own.bridge)
    if wish.subnet != subnets.AUTO:
        yield from check_subnet.check_overlap(facts, wish.subnet)


def check_attachment(facts: NetworkFacts, wish: NetworkRequest) -> Iterator[Finding]:
    """What on the host is in the way of a new attachment."""
    if wish.netns_name in facts.netns:
        yield host_lacks("net.netns", f"the network namespace {wish.netns_name} exists already", "ip netns list")
    chains = [chain for chain in container_chains(wish.name, wish.container_id) if chain in facts.chains]
    if chains:
        yield host_lacks("net.chains", f"iptables chain {chains[0][1]} of a container {wish.container_id} in a network "
                         f"{wish.name} exists already: another state directory has one, or it is left from one")
    yield from check_publish(facts, wish.publish)


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
