"""A network that is there, looked at and attached again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmtool import plan as p
from vmtool.net.actions import CallPlugin
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import Attachment, Network, netns_path, result_path
from vmtool.net.plan import network_step, plan_attach, registered_path
from vmtool.net.plugin_calls import Calls
from vmtool.paths import State


def plan_reset(state: State, facts: NetworkFacts, network: Network, attached: Sequence[Attachment],
               ) -> tuple[p.Step, ...]:
    """DEL and ADD again, also after a reboot: what is gone is made, what is stale is collected.

    Only for a network that no instance uses: the undo of the whole is that of `vmtool net add`. It is one step,
    so that the journal knows the whole undo before the first action. What says which ports are published is
    never removed, only written again: a reset that is killed half-way would else be mended without them.
    """
    made = network_step(state, facts, network, "")
    attaching = [plan_attach(state, facts, network, container_id=item.container_id, netns_name=item.netns,
                             directory=Path(item.directory), publish=item.publish, owner=item.owner)
                 for item in attached or [own_attachment(state, network.name)]]
    known = {item.container_id for item in facts.attached if item.network == network.name}
    stale = [p.Remove(Path(lease.path)) for lease in facts.our_leases
             if lease.network == network.name and lease.container_id not in known]
    undo = [action for step in attaching for action in step.undo]
    registered = [p.Remove(registered_path(state, network.name, item.container_id)) for item in attached]
    detach = [action for action in undo if action not in registered]
    return (p.Step(f"attach the network {network.name} again, and collect {len(stale)} stale leases",
                   (*detach, *stale, *made.actions, *(action for step in attaching for action in step.actions)),
                   (*undo, *made.undo), replaces_previous=True),)


def own_attachment(state: State, name: str) -> Attachment:
    """The namespace that `vmtool net add NAME` attaches to its network, named like it."""
    return Attachment(name, name, name, str(state.network(name) / "net"))


def plan_check(facts: NetworkFacts, attachment: Attachment, bridge: str) -> tuple[CallPlugin, ...]:
    """CHECK of the plugins that do it reliably: portmap 1.1.1 misses an IPv6 chain that nobody needs."""
    directory = Path(attachment.directory)
    call = Calls(Path(facts.plugins.directory), attachment.container_id, netns_path(attachment.netns), directory,
                   bridge)
    return tuple(call.action("CHECK", name, previous=result_path(directory)) for name in ("bridge", "firewall"))
