"""How a network and everything attached to it fares now: by its rules, and by what its plugins say."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.cli.apply_plan import logged_host
from vmtool.errors import VmtoolError
from vmtool.findings import Finding
from vmtool.host.local import LocalMachine
from vmtool.net.attachment_facts import read_inside
from vmtool.net.facts import NetworkFacts, read_network
from vmtool.net.findings import attachment_findings, guard_findings, network_findings
from vmtool.net.network import Attachment, Network
from vmtool.net.plan_reset import plan_check
from vmtool.paths import State


def read_findings(state: State, network: Network, attached: Sequence[Attachment]) -> list[Finding]:
    """Look at a network and everything attached to it, and let the plugins look."""
    machine = LocalMachine()
    facts = read_network(machine, state)
    findings = list(network_findings(facts, network))
    if not attached:
        findings.append(Finding("net.attached", "warn", "attached namespaces", "none",
                                f"vmtool net reset {network.name}"))
    for item in attached:
        findings += attachment_findings(facts, item, read_inside(machine, item))
        findings += guard_findings(facts, network, item)
        findings += _plugin_findings(state, facts, network, item)
    return findings


def _plugin_findings(state: State, facts: NetworkFacts, network: Network, attachment: Attachment) -> list[Finding]:
    found = []
    for action in plan_check(facts, attachment, network.bridge):
        name, title = action.plugin.name, f"CHECK by the plugin {action.plugin.name}"
        try:
            with logged_host(state.network(network.name)) as host:
                action.do(host)
            found.append(Finding(f"net.plugin.{name}", "ok", title, "agrees"))
        except VmtoolError as error:
            found.append(Finding(f"net.plugin.{name}", "fail", title, error.message,
                                 error.hint or f"vmtool net reset {network.name}"))
    if attachment.publish:
        found.append(Finding("net.plugin.portmap", "not-checked", "CHECK by the plugin portmap",
                             "it misses IPv6 chains that nobody needs; see net.published instead",
                             "iptables -w -t nat -S"))
    return found
