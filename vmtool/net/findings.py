"""What is right and wrong with a network of vmtool now; from facts alone."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, finding
from vmtool.net.attachment_facts import Inside
from vmtool.net.facts import NetworkFacts
from vmtool.net.firewall_rules import ADMIN, JUMPS, host_rules
from vmtool.net.iptables import target_of
from vmtool.net.network import Attachment, Network, container_chains


def network_findings(facts: NetworkFacts, network: Network) -> Iterator[Finding]:
    """The network itself: its bridge, its leases, forwarding."""
    reset = f"vmtool net reset {network.name}"
    yield _claim("net.bridge", f"bridge {network.bridge}", network.bridge in facts.bridges, "exists", "is gone", reset)
    wanted = f"{network.gateway}/{network.subnet.partition('/')[2]}"
    has = [item.cidr for item in facts.addresses if item.dev == network.bridge]
    yield _claim("net.gateway", f"{network.bridge} has {wanted}", wanted in has, wanted,
                 f"it has {', '.join(has) or 'no address'}", reset)
    known = {item.container_id for item in facts.attached if item.network == network.name}
    stale = [lease.ip for lease in facts.our_leases
             if lease.network == network.name and lease.container_id not in known]
    yield _claim("net.stale-leases", "every lease has its container", not stale, "they have",
                 f"nobody holds {', '.join(stale)}", reset)
    level, detail = ("ok", facts.forward_policy) if facts.forward_policy else ("not-checked", "iptables did not answer")
    if facts.forward_policy == "DROP":
        detail = "DROP; the firewall plugin's and vmtool's rules let this network through"
    yield Finding("net.forward-policy", "ok" if level == "ok" else "not-checked", "policy of FORWARD", detail,
                  "" if level == "ok" else "iptables -w -S FORWARD")


def attachment_findings(facts: NetworkFacts, attachment: Attachment, inside: Inside) -> Iterator[Finding]:
    """One attachment: namespace, interface, address, lease, chains, published ports."""
    reset, name = _undo_command(attachment), attachment.netns
    yield _claim("net.netns", f"namespace {name}", name in facts.netns, "exists", "is gone (a reboot does that)", reset)
    yield _claim("net.interface", f"interface in {name}", inside.interface, "is there", "is missing", reset)
    result = inside.result
    if result is None:
        yield Finding("net.result", "fail", f"result of attaching {name}", "is gone or not readable", reset)
        return
    cidr = f"{result.ip}/{result.prefix}"
    yield _claim("net.address", f"address in {name}", cidr in inside.addresses, cidr,
                 f"{', '.join(inside.addresses) or 'none'} instead of {cidr}", reset)
    yield _claim("net.route", f"default route in {name}", result.gateway in inside.gateways, f"via {result.gateway}",
                 f"does not lead to {result.gateway}", reset)
    holders = [lease.container_id for lease in facts.our_leases
               if lease.network == attachment.network and lease.ip == result.ip]
    yield _claim("net.lease", f"lease of {result.ip}", holders == [attachment.container_id], attachment.container_id,
                 f"held by {', '.join(holders) or 'nobody'}", reset)
    port = dict(facts.links).get(result.host_interface)
    network = facts.network(attachment.network)
    yield _claim("net.port", f"{result.host_interface} is a port of the bridge",
                 network is not None and port == network.bridge, "it is", "it is not", reset)
    yield from _rule_findings(facts, attachment, result.ip, reset)


def guard_findings(facts: NetworkFacts, network: Network, attachment: Attachment) -> Iterator[Finding]:
    """What keeps others away from an attachment: each rule of vmtool's, and that packets come to those in CNI-ADMIN."""
    rules = host_rules(network, attachment.container_id, attachment.publish, firewalld=facts.firewalld)
    for rule in rules if facts.iptables else ():
        yield _claim(f"net.guard.{rule.name}", f"{rule.title} ({attachment.container_id})", rule.is_in(facts.rules),
                     "the rule is there", f"the rule in {rule.chain} is missing", _undo_command(attachment))
    if facts.iptables and any(rule.chain == ADMIN for rule in rules):
        jumps = {(rule.split()[1], target_of(rule)) for table, rule in facts.rules if table == "filter"}
        yield _claim("net.guard.reached", f"FORWARD leads to {ADMIN}", jumps >= JUMPS, "it does", "it does not",
                     _undo_command(attachment))


def _rule_findings(facts: NetworkFacts, attachment: Attachment, ip: str, hint: str) -> Iterator[Finding]:
    if not facts.iptables:
        yield Finding("net.chains", "not-checked", "iptables chains", "iptables did not answer", "iptables -w -S")
        return
    masquerade, dnat = container_chains(attachment.network, attachment.container_id)
    yield _claim("net.masquerade", "masquerading chain", masquerade in facts.chains, masquerade[1],
                 f"{masquerade[1]} is missing", hint)
    for item in attachment.publish:
        wanted = [rule for table, rule in facts.rules if rule.startswith(f"-A {dnat[1]} ")
                  and f"--dport {item.host_port} " in rule and f"--to-destination {ip}:{item.container_port}" in rule]
        yield _claim(f"net.published.{item.host_port}", f"published port {item}", bool(wanted),
                     f"leads to {ip}:{item.container_port}", f"no rule leads to {ip}:{item.container_port}", hint)


def _undo_command(attachment: Attachment) -> str:
    if attachment.owner.startswith("instance "):
        name = attachment.owner.removeprefix("instance ")
        return f"vmtool rm {name}, then run it again"
    return f"vmtool net reset {attachment.network}"


def _claim(id: str, title: str, holds: bool, good: str, bad: str, hint: str) -> Finding:
    return finding(id, title, "ok" if holds else "fail", good if holds else bad, hint)
