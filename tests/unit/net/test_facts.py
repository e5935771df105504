"""The host's network, read from recorded outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from vmtool.facts.recording import RecordingReader
from vmtool.net.facts import HostAddress, Listener, NetworkFacts, Route, network_questions, read_network
from vmtool.net.iptables import Published, target_of
from vmtool.paths import State
from vmtool.spec.published_port import Publish

DATA = Path(__file__).parents[2] / "data" / "net"
STATE = State(Path("/var/lib/vmtool"))


def recorded(name: str) -> Recorded:
    return Recorded(json.loads((DATA / f"{name}.json").read_text()))


def test_a_machine_of_which_nothing_can_be_read_has_no_network() -> None:
    facts = read_network(Recorded({}), STATE)
    assert facts == NetworkFacts()
    assert facts.plugins.missing == ("bridge", "host-local", "portmap", "firewall")


@pytest.mark.parametrize("name", ["plain", "busy"])
def test_every_program_that_is_started_ahead_is_asked(name: str) -> None:
    """And none is left to be waited for alone."""
    reader = RecordingReader(recorded(name))
    started = set(network_questions(reader))
    read_network(reader, STATE)
    assert {words[0] for kind, *words in reader.reported if kind == "run"} == started


def test_plain_host() -> None:
    facts = read_network(recorded("plain"))
    assert Route("198.51.100.0/24", "eth0") in facts.routes
    assert not any(route.dst == "default" or ":" in route.dst for route in facts.routes)
    assert HostAddress("eth0", "198.51.100.2/24") in facts.addresses
    assert facts.plugins.directory == "/usr/lib/cni"
    assert facts.plugins.versions == ("0.4.0", "1.0.0")
    assert (facts.iptables, facts.forward_policy, facts.chains, facts.published) == (True, "ACCEPT", (), ())


def test_busy_host_with_podman_docker_and_garbage_in_net_d() -> None:
    facts = read_network(recorded("busy"), STATE)
    assert facts.bridges == ("docker0", "cni9", "cni-podman0")
    assert [(item.name, item.bridges, item.subnets) for item in facts.conflists] == [
        ("podman", ("cni-podman0",), ("10.88.0.0/16",)), ("vllmnet", ("cni1",), ("10.99.0.0/16",))]
    assert [(lease.network, lease.ip, lease.container_id) for lease in facts.leases] == [
        ("podman", "10.88.0.2", "foreign1")]
    assert Route("192.168.0.0/16", "blackhole") in facts.routes
    assert ("veth177acd94", "cni-podman0") in facts.links
    assert facts.forward_policy == "DROP"
    assert ("nat", "CNI-HOSTPORT-DNAT") in facts.chains
    assert facts.published == (Published("0.0.0.0", 9443, "tcp", "CNI-DN-263c52b669f877d5562d8"),
                               Published("0.0.0.0", 8080, "tcp", "DOCKER"))
    assert facts.listeners == (Listener("127.0.0.1", 5432), Listener("198.51.100.2", 2222), Listener("*", 9090))


def test_own_networks_with_attachments_and_leases() -> None:
    facts = read_network(recorded("ours"), STATE)
    assert [(network.name, network.bridge, network.owner) for network in facts.ours] == [
        ("alpha", "vmt-alpha", ""), ("beta", "vmt-beta", "")]
    assert facts.network("beta") == facts.ours[1]
    assert facts.network("gamma") is None
    assert [(item.container_id, item.netns, item.publish) for item in facts.attached] == [
        ("alpha", "alpha", (Publish(18000, 8000),)), ("beta", "beta", (Publish(18001, 8000, "0.0.0.0"),))]
    assert [(lease.ip, lease.container_id) for lease in facts.our_leases] == [("10.206.173.2", "alpha"),
                                                                             ("10.66.0.2", "beta")]
    assert facts.chains_made == (("filter", "CNI-FORWARD"), ("filter", "CNI-ADMIN"))
    assert read_network(recorded("ours")).ours == ()


@pytest.mark.parametrize("change", [
    {"ip -j addr": {"out": "not json"}}, {"ip -j addr": {"out": '{"a": 1}'}}, {"ip -j addr": {"out": "[1, null]"}},
    {"ss -Htln": {"out": "LISTEN\n\nx y z nothing"}}, {"iptables -w -t nat -S": {"out": '-A X --comment "torn'}},
    {"iptables -w -t filter -S": {"status": 4, "err": "Permission denied (you must be root)"}},
    {"env CNI_COMMAND=VERSION /usr/lib/cni/bridge": {"out": '{"supportedVersions": 7}'}},
])
def test_garbled_outputs_are_absent_facts(change: dict[str, dict[str, object]]) -> None:
    reader = recorded("plain")
    reader.data["outputs"].update(change)
    facts = read_network(reader, STATE)
    assert facts.published == ()
    assert facts.ours == ()


def test_garbled_records_of_our_own_are_no_networks() -> None:
    reader = recorded("ours")
    reader.data["texts"]["/var/lib/vmtool/networks/alpha/network.json"] = '{"name": "alpha", "subnet": "nonsense"}'
    reader.data["texts"]["/var/lib/vmtool/networks/beta/attached/beta.json"] = "{"
    facts = read_network(reader, STATE)
    assert [network.name for network in facts.ours] == ["beta"]
    assert facts.attached == ()


def test_deeply_nested_configuration_of_somebody_is_passed_over() -> None:
    reader = recorded("plain")
    reader.data["texts"]["/etc/cni/net.d/deep.conf"] = '{"a":' * 100_000
    reader.data["names"]["/etc/cni/net.d"] = ["deep.conf"]
    assert read_network(reader).conflists == ()


@pytest.mark.parametrize(("rule", "published"), [
    ("-A X -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:80", [("0.0.0.0", 80, "tcp")]),
    ("-A X -d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.0.2", [("192.0.2.1", 53, "udp")]),
    ("-A X -p tcp -m multiport --dports 80,443 -j DNAT --to-destination 10.0.0.2",
     [("0.0.0.0", 80, "tcp"), ("0.0.0.0", 443, "tcp")]),
    ("-A X -p tcp -m multiport --dports 81:83 -j DNAT --to-destination 10.0.0.2",
     [("0.0.0.0", 81, "tcp"), ("0.0.0.0", 82, "tcp"), ("0.0.0.0", 83, "tcp")]),
    ("-A X -p tcp -m tcp --dport 80 -j ACCEPT", []),
    ("-A X ! -d 10.0.0.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2", []),
])
def test_published_ports_of_anybody(rule: str, published: list[tuple[str, int, str]]) -> None:
    reader = recorded("plain")
    reader.data["outputs"]["iptables -w -t nat -S"] = {"out": rule + "\n"}
    assert [(item.ip, item.port, item.protocol) for item in read_network(reader).published] == published


def test_target_of_a_rule_with_quoted_words() -> None:
    assert target_of('-A POSTROUTING -m comment --comment "name: \\"a\\" -j b" -j CNI-1') == "CNI-1"
    assert target_of("-A X -m comment --comment y") == ""
