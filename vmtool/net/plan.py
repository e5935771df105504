"""The steps that make a container network and attach a network namespace to it, each with its undo.

How a launch uses this room:

    facts = read_network(reader, state)     # vmtool.net.facts
    request = NetworkRequest(name, container_id, netns_name, owner=..., shared=..., bridge=..., subnet=..., publish=...)
    network = wanted_network(facts, request)   # vmtool.net.check; raises with all problems at once
    steps = (*plan_network(state, facts, network),
             plan_attach(state, facts, network, container_id=..., netns_name=..., directory=..., publish=...,
                         owner=...))

After the attach step `result_path(directory)` holds the result, `address_of(text)` (vmtool.net.cni_result) reads the
container's address from it, and the namespace is at `netns_path(netns_name)` (vmtool.net.network). When the plan begins
by clearing what an earlier launch left, `facts_without(facts, owner)` (vmtool.net.after_cleanup) comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmtool import plan as p
from vmtool.net import firewall_rules
from vmtool.net.actions import LeadPorts, RemoveBridge, RemoveChain, RemoveGuard, RemoveSharedChains
from vmtool.net.conflist import choose_version, plugin_configs, render_conflist
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import (
    MARKER,
    RECORD,
    Attachment,
    Network,
    container_chains,
    netns_path,
)
from vmtool.net.plugin_calls import Calls
from vmtool.paths import State
from vmtool.records import record_text
from vmtool.spec.published_port import Publish

# The plugin that publishes ports.
PORTMAP = "portmap"
# The chains that the plugins make once per host and never remove (plugins/meta/{portmap,firewall}).
TOP_CHAINS = (("nat", "CNI-HOSTPORT-DNAT"), ("nat", "CNI-HOSTPORT-SETMARK"), ("nat", "CNI-HOSTPORT-MASQ"),
              ("filter", "CNI-FORWARD"), ("filter", "CNI-ADMIN"))


def plan_network(state: State, facts: NetworkFacts, network: Network) -> tuple[p.Step, ...]:
    """Make the network's directory and configuration; its bridge comes with the first attachment.

    The undo removes the bridge and the files, hence only the transaction that made the network has it.
    """
    title = f"make the network {network.name}: {network.subnet} on bridge {network.bridge}"
    if facts.network(network.name) == network:
        return (p.Step(title, skip="it is there"),)
    return (network_step(state, facts, network, title),)


def network_step(state: State, facts: NetworkFacts, network: Network, title: str) -> p.Step:
    """The step of `plan_network`, whether or not the network is there."""
    directory = state.network(network.name)
    actions: list[p.Action] = [p.MakeDir(state.networks), p.MakeDir(directory), p.MakeDir(directory / "attached")]
    if not facts.ours:
        absent = [f"{table} {chain}" for table, chain in TOP_CHAINS if (table, chain) not in facts.chains]
        actions.append(p.WriteFile(marker(state), "".join(f"{line}\n" for line in absent)))
    actions += [p.WriteFile(conflist_path(state, network.name), conflist_text(state, facts, network)),
                p.WriteFile(directory / RECORD, record_text(network))]
    # An instance's network lies whole in its directory; that of `net add` holds the journal, so it goes in pieces.
    files = [directory] if network.owner else [conflist_path(state, network.name), directory / "leases",
                                               directory / "attached", directory / RECORD]
    undo: list[p.Action] = [RemoveBridge(network.bridge), *map(p.Remove, files),
                            RemoveSharedChains(marker(state), users=state.networks, own=network.name)]
    return p.Step(title, tuple(actions), tuple(undo))


def plan_attach(state: State, facts: NetworkFacts, network: Network, *, container_id: str, netns_name: str,
                directory: Path, publish: Sequence[Publish] = (), owner: str = "", unpublished: bool = False) -> p.Step:
    """Make the network namespace and call each plugin's ADD; the undo is DEL in reverse.

    Args:
        container_id: unique in the network; with the network's name it names the container's iptables chains.
        directory: of this attachment alone; the undo removes it.
        owner: who attaches, for `vmtool net show`.
        unpublished: the ports are left to `plan_move`.
    """
    conflist = conflist_text(state, facts, network)
    configs = plugin_configs(conflist, publish)
    record = Attachment(network.name, container_id, netns_name, str(directory), owner, tuple(publish))
    registered = registered_path(state, network.name, container_id)
    call = Calls(Path(facts.plugins.directory), container_id, netns_path(netns_name), directory, network.bridge)
    rules = firewall_rules.host_rules(network, container_id, publish, firewalld=facts.firewalld)
    actions: list[p.Action] = [
        p.Expect(("ls", str(state.network(network.name))), RECORD, hint=f"vmtool net add {network.name}"),
        p.MakeDir(directory),
        *(p.WriteFile(directory / f"{name}.json", text) for name, text in configs),
        p.WriteFile(registered, record_text(record)),
        p.Run(("ip", "netns", "add", netns_name)),
        p.Run(("ip", "-n", netns_name, "link", "set", "lo", "up")),
        *(p.Run(rule.add) for rule in rules if rule.first),
        *call.add([name for name, _ in configs if name != PORTMAP or not unpublished]),
        *(p.Run(rule.add) for rule in rules if not rule.first),
    ]
    # What guards the network goes last: whatever ends the undo, nothing is left open.
    undo: list[p.Action] = [
        *call.delete([name for name, _ in configs]),
        # bridge forgets its masquerading chain when the namespace is gone before DEL (plugins 1.1.1).
        *(RemoveChain(table, chain) for table, chain in container_chains(network.name, container_id)),
        p.Run(("ip", "netns", "delete", netns_name), absent_messages=("No such file or directory",)),
        *(RemoveGuard(rule.delete) for rule in reversed(rules)),
        p.Remove(registered),
        p.Remove(directory),
    ]
    return p.Step(f"attach the network namespace {netns_name} to the network {network.name}", tuple(actions),
                  tuple(undo))


def plan_move(facts: NetworkFacts, network: Network, *, container_id: str, netns_name: str, directory: Path,
              publish: Sequence[Publish]) -> p.Step:
    """Let published ports that lead to another container of the network lead to this one, which is attached to it:
    new connections from one moment on, by one change of one rule. The undo leads them back likewise."""
    call = Calls(Path(facts.plugins.directory), container_id, netns_path(netns_name), directory, network.bridge)
    _, chain = container_chains(network.name, container_id)
    ports = ", ".join(f"{port.host_ip}:{port.host_port}" for port in publish)
    return p.Step(f"let {ports} lead to the new one", (call.publish(PORTMAP), LeadPorts(chain[1])),
                  undo=(RemoveChain(*chain),), closing=True)


def marker(state: State) -> Path:
    """The file that lists the chains that were absent before vmtool's first network."""
    return state.networks / MARKER


def registered_path(state: State, name: str, container_id: str) -> Path:
    """The file that says what is attached to a network, and which ports it publishes."""
    return state.network(name) / "attached" / f"{container_id}.json"


def conflist_path(state: State, name: str) -> Path:
    """The network's configuration list, for people and for other tools such as cnitool."""
    return state.network(name) / f"{name}.conflist"


def conflist_text(state: State, facts: NetworkFacts, network: Network) -> str:
    """The network's configuration list."""
    return render_conflist(network, version=choose_version(facts.plugins.versions),
                           data_dir=state.network(network.name) / "leases",
                           backend="firewalld" if facts.firewalld else "iptables")
