"""The steps that make a container network and attach a network namespace to it, each with its way back.

How a launch uses this room:

    facts = read_network(reader, state)     # vmtool.facts.network
    wish = Wish(name, container_id, netns_name, owner=..., shared=..., bridge=..., subnet=..., publish=...)
    network = wanted_network(facts, wish)   # vmtool.net.check; raises with all problems at once
    steps = (*plan_network(state, facts, network),
             plan_attach(state, facts, network, container_id=..., netns_name=..., directory=..., publish=...,
                         owner=...))

After the attach step `result_path(directory)` holds the result, `address_of(text)` (vmtool.net.result) reads the
container's address from it, and the namespace is at `netns_path(netns_name)` (vmtool.net.network).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmtool import plan as p
from vmtool.facts.network import NetworkFacts
from vmtool.net import rules
from vmtool.net.conflist import choose_version, plugin_configs, render_conflist
from vmtool.net.network import (
    MARKER,
    RECORD,
    Attachment,
    Network,
    container_chains,
    netns_path,
    record_text,
    result_path,
)
from vmtool.net.publish import Publish
from vmtool.state import State

IFNAME = "eth0"
# The chains that the plugins make once per host and never remove (plugins/meta/{portmap,firewall}).
TOP_CHAINS = (("nat", "CNI-HOSTPORT-DNAT"), ("nat", "CNI-HOSTPORT-SETMARK"), ("nat", "CNI-HOSTPORT-MASQ"),
              ("filter", "CNI-FORWARD"), ("filter", "CNI-ADMIN"))


def plan_network(state: State, facts: NetworkFacts, network: Network) -> tuple[p.Step, ...]:
    """Make the network's directory and configuration; its bridge comes with the first attachment.

    The way back removes the bridge and the files, hence only the undertaking that made the network has it.
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
    undo: list[p.Action] = [p.RemoveBridge(network.bridge), *map(p.Remove, files),
                            p.SweepChains(marker(state), users=state.networks, own=network.name)]
    return p.Step(title, tuple(actions), tuple(undo))


def plan_attach(state: State, facts: NetworkFacts, network: Network, *, container_id: str, netns_name: str,
                directory: Path, publish: Sequence[Publish] = (), owner: str = "") -> p.Step:
    """Make the network namespace and call each plugin's ADD; the way back is DEL in reverse.

    Args:
        container_id: unique in the network; with the network's name it names the container's iptables chains.
        directory: of this attachment alone; the way back removes it.
        owner: who attaches, for `vmtool net show`.
    """
    conflist = conflist_text(state, facts, network)
    configs = plugin_configs(conflist, publish)
    record = Attachment(network.name, container_id, netns_name, str(directory), owner, tuple(publish))
    registered = state.network(network.name) / "attached" / f"{container_id}.json"
    call = _Caller(Path(facts.plugins.directory), container_id, netns_path(netns_name), directory, network.bridge)
    host_rules = rules.host_rules(network, container_id, publish, firewalld=facts.firewalld)
    actions: list[p.Action] = [
        p.Expect(("ls", str(state.network(network.name))), RECORD, hint=f"vmtool net add {network.name}"),
        p.MakeDir(directory),
        *(p.WriteFile(directory / f"{name}.json", text) for name, text in configs),
        p.WriteFile(registered, record_text(record)),
        p.Run(("ip", "netns", "add", netns_name)),
        p.Run(("ip", "-n", netns_name, "link", "set", "lo", "up")),
        *call.add([name for name, _ in configs]),
        *(p.Run(rule.add) for rule in host_rules),
    ]
    undo: list[p.Action] = [
        *(p.Run(rule.delete, gone=rules.GONE) for rule in reversed(host_rules)),
        *call.delete([name for name, _ in configs]),
        # bridge forgets its masquerading chain when the namespace is gone before DEL (plugins 1.1.1).
        *(p.RemoveChain(table, chain) for table, chain in container_chains(network.name, container_id)),
        p.Run(("ip", "netns", "delete", netns_name), gone=("No such file or directory",)),
        p.Remove(registered),
        p.Remove(directory),
    ]
    return p.Step(f"attach the network namespace {netns_name} to the network {network.name}", tuple(actions),
                  tuple(undo))


def plan_reset(state: State, facts: NetworkFacts, network: Network, attached: Sequence[Attachment],
               ) -> tuple[p.Step, ...]:
    """DEL and ADD anew, also after a reboot: what is gone is made, what is stale is collected.

    Only for a network that no instance uses: the way back of the whole is that of `vmtool net add`. It is one step,
    so that the journal knows the whole way back before the first action.
    """
    made = network_step(state, facts, network, "")
    attaching = [plan_attach(state, facts, network, container_id=item.container_id, netns_name=item.netns,
                             directory=Path(item.directory), publish=item.publish, owner=item.owner)
                 for item in attached or [own_attachment(state, network.name)]]
    known = {item.container_id for item in facts.attached if item.network == network.name}
    stale = [p.Remove(Path(lease.path)) for lease in facts.our_leases
             if lease.network == network.name and lease.container_id not in known]
    undo = [action for step in attaching for action in step.undo]
    return (p.Step(f"attach the network {network.name} anew, and collect {len(stale)} stale leases",
                   (*undo, *stale, *made.actions, *(action for step in attaching for action in step.actions)),
                   (*undo, *made.undo)),)


def own_attachment(state: State, name: str, publish: tuple[Publish, ...] = ()) -> Attachment:
    """The namespace that `vmtool net add NAME` attaches to its network, named like it."""
    return Attachment(name, name, name, str(state.network(name) / "net"), publish=publish)


def plan_check(facts: NetworkFacts, attachment: Attachment, bridge: str) -> tuple[p.CallPlugin, ...]:
    """CHECK of the plugins that do it reliably: portmap 1.1.1 misses an IPv6 chain that nobody needs."""
    directory = Path(attachment.directory)
    call = _Caller(Path(facts.plugins.directory), attachment.container_id, netns_path(attachment.netns), directory,
                   bridge)
    return tuple(call.action("CHECK", name, previous=result_path(directory)) for name in ("bridge", "firewall"))


def marker(state: State) -> Path:
    """The file that lists the chains that were absent before vmtool's first network."""
    return state.networks / MARKER


def conflist_path(state: State, name: str) -> Path:
    """The network's configuration list, for people and for other tools such as cnitool."""
    return state.network(name) / f"{name}.conflist"


def conflist_text(state: State, facts: NetworkFacts, network: Network) -> str:
    """The network's configuration list."""
    return render_conflist(network, version=choose_version(facts.plugins.versions),
                           data_dir=state.network(network.name) / "leases",
                           backend="firewalld" if facts.firewalld else "iptables")


class _Caller:
    """The calls of one attachment's plugins; a result travels to the next one in a file."""

    def __init__(self, plugins: Path, container_id: str, netns: Path, directory: Path, bridge: str) -> None:
        self.plugins, self.container_id, self.netns = plugins, container_id, netns
        self.directory, self.bridge = directory, bridge

    def action(self, command: str, name: str, *, previous: Path | None, result: Path | None = None) -> p.CallPlugin:
        retried = self.bridge if (command, name) == ("ADD", "bridge") else ""
        return p.CallPlugin(command, self.plugins / name, self.directory / f"{name}.json", self.container_id,
                            self.netns, IFNAME, previous, result, again_without=retried)

    def add(self, names: Sequence[str]) -> list[p.Action]:
        results = [*(self.directory / f"{name}.result.json" for name in names[:-1]), result_path(self.directory)]
        return [self.action("ADD", name, previous=results[number - 1] if number else None, result=results[number])
                for number, name in enumerate(names)]

    def delete(self, names: Sequence[str]) -> list[p.Action]:
        # The first plugin's result has all that the others need, and is there when a later one was cut short.
        previous = self.directory / f"{names[0]}.result.json"
        return [self.action("DEL", name, previous=previous) for name in reversed(names)]
