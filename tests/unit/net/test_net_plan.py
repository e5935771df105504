"""The steps of a network: exact actions, and an undo that names nothing of others'."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tests.unit.net.conftest import Host
from vmtool import plan as p
from vmtool.net.actions import CallPlugin, RemoveBridge, RemoveChain, RemoveGuard, RemoveSharedChains
from vmtool.net.after_cleanup import facts_without
from vmtool.net.cni_facts import Lease
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import Attachment, Network, container_chains
from vmtool.net.plan import plan_attach, plan_network, registered_path
from vmtool.net.plan_add import plan_add
from vmtool.net.plan_reset import plan_check, plan_reset
from vmtool.paths import State
from vmtool.plan import action_from_json, to_json
from vmtool.spec.published_port import Publish

GAMMA = Network("gamma", "vmt-gamma", "10.55.0.0/24")
ROOM = Path("/var/lib/vmtool/networks/gamma")
LOOPBACK, OUTSIDE = Publish(18000, 8000), Publish(18001, 8000, "0.0.0.0")


def attach(state: State, facts: NetworkFacts, *publish: Publish) -> p.Step:
    return plan_attach(state, facts, GAMMA, container_id="box", netns_name="vmtool-box", directory=Path("/i/box/net"),
                       publish=publish, owner="instance box")


def made(path: str) -> str:
    """The line that makes a directory."""
    return p.MakeDir(Path(path)).shell()


def brief(actions: tuple[p.Action, ...]) -> list[str]:
    """An action a line, the text of files left out."""
    return [f"write {action.path}" if isinstance(action, p.WriteFile) else action.shell() for action in actions]


def test_a_new_network_writes_its_files_and_remembers_which_chains_were_absent(state: State, host: Host) -> None:
    (step,) = plan_network(state, host("busy"), GAMMA)
    assert brief(step.actions) == [
        made("/var/lib/vmtool/networks"),
        made(f"{ROOM}"),
        made(f"{ROOM}/attached"),
        "write /var/lib/vmtool/networks/chains-made",
        f"write {ROOM}/gamma.conflist",
        f"write {ROOM}/network.json"]
    marker = next(action for action in step.actions if isinstance(action, p.WriteFile))
    assert marker.text == "filter CNI-FORWARD\nfilter CNI-ADMIN\n", "podman had the chains of portmap before"


def test_the_second_network_leaves_that_memory_alone(state: State, host: Host) -> None:
    (step,) = plan_network(state, host("ours"), GAMMA)
    assert not any(isinstance(action, p.WriteFile) and action.path.name == "chains-made" for action in step.actions)


def test_the_way_back_of_a_network(state: State, host: Host) -> None:
    (step,) = plan_network(state, host("plain"), GAMMA)
    assert step.undo == (
        RemoveBridge("vmt-gamma"), p.Remove(ROOM / "gamma.conflist"), p.Remove(ROOM / "leases"),
        p.Remove(ROOM / "attached"), p.Remove(ROOM / "network.json"),
        RemoveSharedChains(state.networks / "chains-made", users=state.networks, own="gamma"))
    (owned,) = plan_network(state, host("plain"), dataclasses.replace(GAMMA, owner="instance gamma"))
    assert p.Remove(ROOM) in owned.undo, "no journal lies in it"
    assert p.Remove(ROOM) not in step.undo


def test_a_network_that_is_there_is_not_made_and_so_not_undone(state: State, host: Host) -> None:
    facts = host("ours")
    (step,) = plan_network(state, facts, facts.ours[0])
    assert (step.skip, step.actions, step.undo) == ("it is there", (), ())


def test_attach(state: State, host: Host) -> None:
    step = attach(state, host("plain"), LOOPBACK)
    env = ("CNI_CONTAINERID=box CNI_NETNS=/var/run/netns/vmtool-box CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni "
           "/usr/lib/cni")
    assert brief(step.actions) == [
        p.Expect(("ls", str(ROOM)), "network.json").shell(),
        made("/i/box/net"),
        "write /i/box/net/bridge.json", "write /i/box/net/portmap.json", "write /i/box/net/firewall.json",
        f"write {ROOM}/attached/box.json",
        "ip netns add vmtool-box",
        "ip -n vmtool-box link set lo up",
        "iptables -w -t raw -I PREROUTING '!' -i lo -d 127.0.0.0/8 -m comment --comment 'vmtool gamma/box' -j DROP",
        "(umask 077; : >> /i/box/net/bridge.result.json); "
        f"CNI_COMMAND=ADD {env}/bridge < /i/box/net/bridge.json > /i/box/net/bridge.result.json",
        "(umask 077; : >> /i/box/net/portmap.result.json); "
        "jq -s '.[0] + {prevResult: .[1]}' /i/box/net/portmap.json /i/box/net/bridge.result.json | "
        f"CNI_COMMAND=ADD {env}/portmap > /i/box/net/portmap.result.json",
        "(umask 077; : >> /i/box/net/result.json); "
        "jq -s '.[0] + {prevResult: .[1]}' /i/box/net/firewall.json /i/box/net/portmap.result.json | "
        f"CNI_COMMAND=ADD {env}/firewall > /i/box/net/result.json",
        "iptables -w -t filter -A CNI-ADMIN '!' -i vmt-gamma -o vmt-gamma -m conntrack '!' --ctstate "
        "RELATED,ESTABLISHED,DNAT -m comment --comment 'vmtool gamma/box' -j DROP"]


def test_detach_is_the_reverse_and_tolerates_what_is_gone(state: State, host: Host) -> None:
    step = attach(state, host("plain"), LOOPBACK, OUTSIDE)
    kinds = [type(action).__name__ for action in step.undo]
    assert kinds == ["CallPlugin", "CallPlugin", "CallPlugin", "RemoveChain", "RemoveChain", "Run",
                     "RemoveGuard", "RemoveGuard", "RemoveGuard", "Remove", "Remove"]
    assert [action.plugin.name for action in step.undo if isinstance(action, CallPlugin)] == [
        "firewall", "portmap", "bridge"]
    assert all(action.command == "DEL" for action in step.undo if isinstance(action, CallPlugin))
    assert all(action.absent_messages for action in step.undo if isinstance(action, p.Run))
    assert [(action.table, action.chain) for action in step.undo if isinstance(action, RemoveChain)] == list(
        container_chains("gamma", "box"))
    removed = [action.path for action in step.undo if isinstance(action, p.Remove)]
    assert removed == [ROOM / "attached" / "box.json", Path("/i/box/net")]


def test_rules_of_vmtool_are_deleted_exactly_as_they_were_added(state: State, host: Host) -> None:
    step = attach(state, host("plain"), LOOPBACK, OUTSIDE)
    added = [action.argv for action in step.actions if isinstance(action, p.Run) and action.argv[0] == "iptables"]
    deleted = [action.argv for action in step.undo if isinstance(action, RemoveGuard)]
    assert len(added) == 3
    assert [(*argv[:4], "-D", *argv[5:]) for argv in reversed(added)] == deleted


def test_only_what_is_published_outside_gets_through_a_closed_forward_policy(state: State, host: Host) -> None:
    def accepts(*publish: Publish) -> bool:
        return any(isinstance(action, p.Run) and "DNAT" in action.argv and "ACCEPT" in action.argv
                   for action in attach(state, host("busy"), *publish).actions)

    assert accepts(OUTSIDE)
    assert not accepts(LOOPBACK)
    assert not accepts()


def test_firewalld_has_no_admin_chain(state: State, host: Host) -> None:
    facts = dataclasses.replace(host("plain"), firewalld=True)
    step = attach(state, facts, OUTSIDE)
    assert not any("CNI-ADMIN" in line for line in brief(step.actions + step.undo))
    config = next(action.text for action in step.actions
                  if isinstance(action, p.WriteFile) and action.path.name == "firewall.json")
    assert json.loads(config)["backend"] == "firewalld"


def test_every_action_survives_the_journal(state: State, host: Host) -> None:
    facts = host("plain")
    for step in (*plan_network(state, facts, GAMMA), attach(state, facts, LOOPBACK, OUTSIDE)):
        for action in (*step.actions, *step.undo):
            assert action_from_json(json.loads(json.dumps(to_json(action)))) == action


def test_the_same_facts_give_the_same_plan(state: State, host: Host) -> None:
    plans = [plan_add(state, host("busy"), "gamma", None, "auto", (LOOPBACK,)) for _ in range(2)]
    assert list(p.plan_lines(plans[0])) == list(p.plan_lines(plans[1]))
    assert plans[0].subject == "network gamma"
    assert plans[0].directory == ROOM


def test_reset_is_one_step_that_detaches_collects_and_attaches(state: State, host: Host) -> None:
    facts = host("ours")
    stale = Lease("alpha", "10.206.173.9", "long-gone", "/var/lib/vmtool/networks/alpha/leases/alpha/10.206.173.9")
    foreign = dataclasses.replace(stale, network="beta", path="/b")
    facts = dataclasses.replace(facts, our_leases=(*facts.our_leases, stale, foreign))
    attached = [item for item in facts.attached if item.network == "alpha"]
    (step,) = plan_reset(state, facts, facts.ours[0], attached)
    commands = [action.command for action in step.actions if isinstance(action, CallPlugin)]
    assert commands == ["DEL", "DEL", "DEL", "ADD", "ADD", "ADD"]
    removed = [str(action.path) for action in step.actions if isinstance(action, p.Remove)]
    assert stale.path in removed
    assert not any(path == "/b" or path.endswith("10.206.173.2") for path in removed)
    assert RemoveBridge("vmt-alpha") not in step.actions
    assert RemoveBridge("vmt-alpha") in step.undo
    # It alone knows the published ports: killed half-way, the next reset must find them.
    registered = p.Remove(registered_path(state, "alpha", attached[0].container_id))
    assert registered not in step.actions
    assert registered in step.undo


def test_reset_of_a_network_that_lost_its_attachment_makes_its_own(state: State, host: Host) -> None:
    facts = dataclasses.replace(host("ours"), attached=())
    (step,) = plan_reset(state, facts, facts.ours[0], [])
    assert p.Run(("ip", "netns", "add", "alpha")) in step.actions


def test_check_leaves_portmap_out(host: Host) -> None:
    facts = host("ours")
    actions = plan_check(facts, facts.attached[0], "vmt-alpha")
    assert [(action.command, action.plugin.name) for action in actions] == [("CHECK", "bridge"), ("CHECK", "firewall")]
    assert all(action.previous == Path(facts.attached[0].directory) / "result.json" for action in actions)


def test_facts_without_an_owner_are_those_before_it_came(state: State, host: Host) -> None:
    facts = host("ours")
    owner = "instance quick"
    ours = tuple(dataclasses.replace(network, owner=owner) for network in facts.ours)
    attached = tuple(dataclasses.replace(item, owner=owner) for item in facts.attached)
    cleared = facts_without(dataclasses.replace(facts, ours=ours, attached=attached), owner)
    before = host("busy")
    assert (cleared.ours, cleared.attached, cleared.our_leases) == ((), (), ())
    assert (cleared.netns, cleared.bridges, cleared.routes) == (before.netns, before.bridges, before.routes)
    assert (cleared.chains, cleared.published) == (before.chains, before.published)
    assert cleared.addresses == before.addresses
    (step,) = plan_network(state, cleared, GAMMA)
    marker = next(action for action in step.actions if isinstance(action, p.WriteFile))
    assert marker.text == "filter CNI-FORWARD\nfilter CNI-ADMIN\n"


def test_facts_without_nobody_are_the_same(host: Host) -> None:
    assert facts_without(host("ours"), "instance nobody") == host("ours")


def test_facts_without_a_guest_of_a_shared_network_keep_the_network(host: Host) -> None:
    facts = host("ours")
    guest = Attachment("beta", "box", "vmtool-box", "/i/box/net", "instance box")
    lease = Lease("beta", "10.66.0.3", "box", "/l")
    more = dataclasses.replace(facts, attached=(*facts.attached, guest), our_leases=(*facts.our_leases, lease),
                               netns=(*facts.netns, "vmtool-box"))
    assert facts_without(more, "instance box") == facts
