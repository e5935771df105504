"""Networks: added, reset, deleted."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fakes.machine import FakeMachine
from tests.fakes.recorded import Recorded
from tests.unit.sweeps.engine import Boot, Case, booted
from vmtool.net.facts import read_network
from vmtool.net.plan_add import plan_add
from vmtool.net.plan_reset import plan_reset
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.spec.published_port import Publish

DATA = Path(__file__).parents[2] / "data" / "net"
PORTS = (Publish(18000, 8000), Publish(18001, 8000, "0.0.0.0"))
LEFT = {
    r"devices texts /proc/sys/net/ipv4/ip_forward": "the bridge plugin turns forwarding on and nobody turns it off",
    r"files /run/netns": "`ip netns add` makes the directory once",
}


def host(name: str) -> Boot:
    """A recorded host of tests/data/net."""
    def boot(state: State) -> FakeMachine:
        text = (DATA / f"{name}.json").read_text().replace("/var/lib/vmtool", str(state.root))
        return FakeMachine(Recorded(json.loads(text)))

    return boot


def added(name: str, *publish: Publish) -> Boot:
    """A host with the network alpha."""
    return booted(host(name), lambda state, machine: add(state, machine, *publish))


def add(state: State, machine: FakeMachine, *publish: Publish) -> Plan:
    return plan_add(state, read_network(machine, state), "alpha", None, "auto", publish)


def reset(state: State, machine: FakeMachine) -> Plan:
    """As the command makes it."""
    facts = read_network(machine, state)
    [network] = [one for one in facts.ours if one.name == "alpha"]
    attached = [one for one in facts.attached if one.network == "alpha"]
    return Plan("network alpha", state.network("alpha"), plan_reset(state, facts, network, attached))


def gone(boot: Boot) -> Boot:
    """A host, with the directory that `net add` leaves its journal in."""
    def later(state: State) -> FakeMachine:
        machine = boot(state)
        machine.tree.make_dir(str(state.network("alpha")), 0o700, parents=0o700)
        return machine

    return later


CASES = {
    "net add": Case(host("plain"), add, LEFT),
    "net add, published": Case(host("plain"), lambda state, machine: add(state, machine, *PORTS), LEFT),
    "net add, on a busy host": Case(host("busy"), lambda state, machine: add(state, machine, *PORTS), LEFT),
    "net reset": Case(added("plain", *PORTS), reset, LEFT, undone=gone(host("plain"))),
    "net reset, on a busy host": Case(added("busy"), reset, LEFT, undone=gone(host("busy"))),
}
