"""The shell lines of networks, typed in one host inside the host; their actions, done in another that is the same."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.nethost import NetHost
from tests.integration.shell import IN_A_NETWORK, type_line
from vmtool import plan as p
from vmtool.net.actions import RemoveBridge, RemoveChain, RemoveSharedChains
from vmtool.net.cni_facts import Plugins
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import Network
from vmtool.net.plan import plan_attach, plan_move, plan_network
from vmtool.paths import State
from vmtool.spec.published_port import Publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Pair:
    """The one in which actions are done, and the one in which their lines are typed."""

    def __init__(self, done: NetHost, typed: NetHost) -> None:
        self.done, self.typed = done, typed

    def both(self, *lines: str) -> None:
        """The same in both."""
        for host in (self.done, self.typed):
            for line in lines:
                host.run("sh", "-ec", line)

    def go(self, *actions: p.Action) -> tuple[bool, bool]:
        """Do and type; whether it worked."""
        done = self.done.run(sys.executable, "-m", "tests.integration.doing", status=None,
                             stdin=json.dumps([p.to_json(action) for action in actions]))
        print(done.stdout, done.stderr)
        typed = [type_line(action.shell(), *self.typed.argv()) for action in actions]
        return done.returncode == 0, all(typed)

    def same(self) -> None:
        """Both hosts are the same, but for what the kernel names at random."""
        marks = [re.sub(r"veth[0-9a-f]+| linkdown", "", json.dumps(host.footprint(), indent=1, sort_keys=True))
                 + host.run("find", "/var/lib/vmtool", "/var/lib/cni", "-printf", "%p %M %U %l\n", status=None).stdout
                 for host in (self.done, self.typed)]
        files = [sorted(mark.splitlines()) for mark in marks]
        assert files[0] == files[1]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with NetHost() as done, NetHost() as typed:
        yield Pair(done, typed)


PORTS = (Publish(18000, 8000), Publish(18001, 8000, "0.0.0.0"))


def test_a_network_that_is_typed_is_the_one_that_is_made(pair: Pair) -> None:
    state, network = State(Path("/var/lib/vmtool")), Network("alpha", "vmt-alpha", "10.77.0.0/24")
    facts = NetworkFacts(plugins=Plugins("/usr/lib/cni", (), ("0.4.0", "1.0.0")), iptables=True)
    second: dict[str, Any] = {"container_id": "box.b", "netns_name": "box.b", "publish": PORTS,
                              "directory": state.network("alpha") / "second"}
    steps = (*plan_network(state, facts, network), plan_attach(
        state, facts, network, container_id="box", netns_name="box", directory=state.network("alpha") / "net",
        publish=PORTS), plan_attach(state, facts, network, **second, owner="", unpublished=True),
        plan_move(facts, network, **second))
    pair.both("mkdir -m 0700 /var/lib/vmtool")
    for step in steps:
        assert pair.go(*step.actions) == (True, True)
        pair.same()
    kinds = {type(action) for step in steps for action in (*step.actions, *step.undo)}
    assert kinds >= set(IN_A_NETWORK)
    for step in reversed(steps):
        for action in step.undo:
            assert pair.go(action) == (True, True)
            pair.same()
    again = [action for step in reversed(steps) for action in step.undo]
    assert pair.go(*again) == (True, True), "there is nothing left to undo"
    pair.same()


SHARED = RemoveSharedChains(Path("/run/m/chains-made"), Path("/run/m"), "own")
MARKER = ("mkdir -p /run/m/own", "touch /run/m/own/network.json",
          "printf 'nat CNI-HOSTPORT-DNAT\\nnat CNI-HOSTPORT-MASQ\\nfilter CNI-FORWARD\\n' > /run/m/chains-made")
CHAINS = ("iptables -t nat -N CNI-HOSTPORT-DNAT", "iptables -t nat -N CNI-HOSTPORT-MASQ", "iptables -N CNI-FORWARD",
          "iptables -t nat -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
          "iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
          "iptables -t nat -A POSTROUTING -m comment --comment 'a b' -j CNI-HOSTPORT-MASQ",
          "iptables -A FORWARD -m comment --comment 'CNI firewall plugin rules' -j CNI-FORWARD")
NETWORKS: dict[str, tuple[tuple[str, ...], p.Action, bool]] = {
    "a bridge": (("ip link add br0 type bridge",), RemoveBridge("br0"), True),
    "no bridge": ((), RemoveBridge("br0"), True),
    "a bridge with somebody's port": (("ip link add br0 type bridge", "ip link add other type veth peer name other1",
                                       "ip link set other master br0"), RemoveBridge("br0"), False),
    "a device that is no bridge": (("ip link add br0 type veth peer name br1",), RemoveBridge("br0"), True),
    "a chain that is not there": ((), RemoveChain("nat", "CNI-1"), True),
    "a chain with jumps from several": (
        ("iptables -t nat -N CNI-1", "iptables -t nat -N CNI-12", "iptables -t nat -A CNI-1 -j ACCEPT",
         "iptables -t nat -A POSTROUTING -m comment --comment 'name: \"a\" id: \"b\"' -j CNI-1",
         "iptables -t nat -A OUTPUT ! -d 10.0.0.0/8 -j CNI-1", "iptables -t nat -A OUTPUT -j CNI-12"),
        RemoveChain("nat", "CNI-1"), True),
    "shared chains that serve nobody": ((*MARKER, *CHAINS), SHARED, True),
    "shared chains that are not there": (MARKER, SHARED, True),
    "shared chains, and nothing says whose": (CHAINS, SHARED, True),
    "shared chains of another network": ((*MARKER, *CHAINS, "mkdir /run/m/b", "touch /run/m/b/network.json"), SHARED,
                                         True),
    "shared chains, one of which was there before": (
        (*MARKER, *CHAINS, "iptables -t nat -N CNI-HOSTPORT-SETMARK"), SHARED, True),
    "shared chains with somebody's rule": ((*MARKER, *CHAINS, "iptables -A CNI-FORWARD -s 10.9.0.2 -j ACCEPT"), SHARED,
                                           True),
    "shared chains that somebody's chain leads to": (
        (*MARKER, *CHAINS, "iptables -t nat -N OTHER", "iptables -t nat -A OTHER -j CNI-HOSTPORT-MASQ"), SHARED, True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_left_of_networks_is_removed_the_same_way(pair: Pair, name: str) -> None:
    before, action, works = NETWORKS[name]
    pair.both(*before)
    assert pair.go(action) == (works, works)
    pair.same()
    assert pair.done.run("ls", "/run/m", status=None).stdout == pair.typed.run("ls", "/run/m", status=None).stdout
