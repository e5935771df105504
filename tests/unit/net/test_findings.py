"""What `vmtool net check` concludes from facts, and what a plugin's result says."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.net.conftest import Host
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.net.attachment_facts import Inside, read_inside
from vmtool.net.cni_facts import Lease
from vmtool.net.cni_result import Address, address_of
from vmtool.net.facts import NetworkFacts
from vmtool.net.findings import attachment_findings, guard_findings, network_findings
from vmtool.net.plan_add import plan_add
from vmtool.paths import State
from vmtool.spec.published_port import Publish

RESULT = {"cniVersion": "1.0.0", "interfaces": [{"name": "vmt-alpha", "mac": "0a:00:00:00:00:01"},
                                                {"name": "veth1", "mac": "0a:00:00:00:00:02"},
                                                {"name": "eth0", "mac": "0a:00:00:00:00:03", "sandbox": "/n/alpha"}],
          "ips": [{"interface": 2, "address": "10.206.173.2/24", "gateway": "10.206.173.1"}], "routes": [], "dns": {}}
ADDRESS = Address("10.206.173.2", "10.206.173.1", 24, "eth0", "0a:00:00:00:00:03", "veth1")
WHOLE = Inside(ADDRESS, True, ("10.206.173.2/24",), ("10.206.173.1",))


def test_address_of() -> None:
    assert address_of(json.dumps(RESULT)) == ADDRESS
    six = {"interface": 2, "address": "fd00::2/64", "gateway": "fd00::1"}
    assert address_of(json.dumps({**RESULT, "ips": [six, *RESULT["ips"]]})) == ADDRESS


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "{}", '{"ips": []}', json.dumps({**RESULT, "ips": [{"address": "nonsense"}]}),
    json.dumps({**RESULT, "ips": [{"interface": 9, "address": "10.0.0.2/24", "gateway": "10.0.0.1"}]}),
    json.dumps({**RESULT, "interfaces": []}), '{"code": 999, "msg": "no"}', '{"ips": [7]}', '{"ips": "x"}'])
def test_what_is_no_result(text: str) -> None:
    with pytest.raises(VmtoolError, match="not the result of a CNI plugin"):
        address_of(text)


def failed(host: Host, inside: Inside = WHOLE, **changes: object) -> list[str]:
    """Ids of the failed findings of alpha, whose port of the bridge is veth1."""
    facts = host("ours")
    links = tuple(("veth1", master) if master == "vmt-alpha" else (name, master) for name, master in facts.links)
    facts = dataclasses.replace(facts, **{"links": links, **changes})  # type: ignore[arg-type]
    found = [*network_findings(facts, facts.ours[0]), *attachment_findings(facts, host("ours").attached[0], inside)]
    assert all(item.hint for item in found if item.level != "ok")
    return [item.id for item in found if item.level == "fail"]


def test_a_whole_network_has_no_failures(host: Host) -> None:
    assert failed(host) == []


def test_each_broken_thing_is_found(host: Host) -> None:
    facts = host("ours")
    stale = Lease("alpha", "10.206.173.9", "gone", "/l")
    assert failed(host, bridges=()) == ["net.bridge"]
    assert failed(host, addresses=()) == ["net.gateway"]
    assert failed(host, our_leases=(*facts.our_leases, stale)) == ["net.stale-leases"]
    assert failed(host, our_leases=()) == ["net.lease"]
    assert failed(host, netns=()) == ["net.netns"]
    assert failed(host, links=()) == ["net.port"]
    assert failed(host, chains=()) == ["net.masquerade"]
    assert failed(host, rules=()) == ["net.published.18000"]
    assert failed(host, dataclasses.replace(WHOLE, result=None)) == ["net.result"]
    assert failed(host, Inside(ADDRESS)) == ["net.interface", "net.address", "net.route"]


def guards(facts: NetworkFacts) -> list[str]:
    """Ids of the failed findings on what keeps others away from alpha and beta."""
    networks = {network.name: network for network in facts.ours}
    found = [item for each in facts.attached for item in guard_findings(facts, networks[each.network], each)]
    assert found
    assert all(item.hint.startswith("vmtool net reset ") for item in found if item.level == "fail")
    return [item.id for item in found if item.level == "fail"]


def test_every_rule_that_guards_a_network_is_looked_for(host: Host) -> None:
    facts = host("ours")
    assert guards(facts) == []
    for text, failed in (("vmtool beta/beta\" -j DROP", ["net.guard.localnet", "net.guard.unpublished"]),
                         ("vmtool beta/beta\" -j ACCEPT", ["net.guard.forward"]),
                         ("-j CNI-ADMIN", ["net.guard.reached"] * 2), ("-j CNI-FORWARD", ["net.guard.reached"] * 2)):
        rules = tuple((table, rule) for table, rule in facts.rules if text not in rule)
        assert guards(dataclasses.replace(facts, rules=rules)) == failed, text


def test_a_network_without_its_guards_is_not_called_done(state: State, host: Host) -> None:
    facts = host("ours")
    rules = tuple((table, rule) for table, rule in facts.rules if table != "raw")
    with pytest.raises(NotReady, match="is not whole any more"):
        plan_add(state, dataclasses.replace(facts, rules=rules), "alpha", None, "auto", (Publish(18000, 8000),))


def test_what_iptables_does_not_tell_is_not_checked(host: Host) -> None:
    facts = dataclasses.replace(host("ours"), iptables=False, forward_policy="")
    found = [*network_findings(facts, facts.ours[0]), *attachment_findings(facts, facts.attached[0], WHOLE)]
    assert {item.id for item in found if item.level == "not-checked"} == {"net.forward-policy", "net.chains"}


def test_the_way_back_of_an_instances_attachment_is_the_instances(host: Host) -> None:
    facts = dataclasses.replace(host("ours"), netns=())
    guest = dataclasses.replace(facts.attached[0], owner="instance box")
    found = next(iter(attachment_findings(facts, guest, WHOLE)))
    assert (found.level, found.hint) == ("fail", "vmtool rm box, then run it again")


def test_a_look_inside(host: Host) -> None:
    attachment = host("ours").attached[0]
    reader = Recorded({"texts": {f"{attachment.directory}/result.json": json.dumps(RESULT)}, "outputs": {
        "ip -n alpha -j addr show dev eth0": {"out": json.dumps([{"ifname": "eth0", "addr_info": [
            {"family": "inet", "local": "10.206.173.2", "prefixlen": 24}, {"family": "inet6", "local": "fe80::1"}]}])},
        "ip -n alpha -j route show default": {"out": '[{"dst":"default","gateway":"10.206.173.1"}]'}}})
    assert read_inside(reader, attachment) == WHOLE
    assert read_inside(Recorded({}), attachment) == Inside(None)


def test_the_same_network_again_is_nothing_to_do(state: State, host: Host) -> None:
    plan = plan_add(state, host("ours"), "alpha", None, "auto", (Publish(18000, 8000),))
    assert not plan.changes
    assert [step.skip for step in plan.steps] == ["it is there"]


@pytest.mark.parametrize(("bridge", "subnet", "publish", "problem"), [
    (None, "auto", (), "the network alpha publishes 127.0.0.1:18000:8000"),
    ("x", "auto", (Publish(18000, 8000),), "the network alpha is on bridge vmt-alpha, not x"),
    (None, "10.1.0.0/24", (Publish(18000, 8000),), "the network alpha has the subnet 10.206.173.0/24"),
])
def test_another_network_of_the_same_name_is_refused(state: State, host: Host, bridge: str | None, subnet: str,
                                                     publish: tuple[Publish, ...], problem: str) -> None:
    with pytest.raises(Refused) as caught:
        plan_add(state, host("ours"), "alpha", bridge, subnet, publish)
    assert any(problem in line for line in caught.value.details)
    assert "vmtool net del alpha" in caught.value.hint


def test_a_network_that_a_reboot_emptied_is_not_called_done(state: State, host: Host) -> None:
    facts = dataclasses.replace(host("ours"), netns=(), bridges=())
    with pytest.raises(NotReady, match="is not whole any more") as caught:
        plan_add(state, facts, "alpha", None, "auto", (Publish(18000, 8000),))
    assert caught.value.hint == "vmtool net reset alpha"
