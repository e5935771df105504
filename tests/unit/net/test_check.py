"""Wishes against recorded hosts: the network that comes out, or every problem at once."""

from __future__ import annotations

import dataclasses

import pytest

from tests.unit.net.conftest import Host
from vmtool.errors import NotReady, Refused
from vmtool.net.check import NetworkRequest, wanted_network
from vmtool.net.cni_facts import Plugins
from vmtool.net.facts import NetworkFacts
from vmtool.net.network import BRIDGE_LENGTH, Network, bridge_names
from vmtool.spec.published_port import Publish

WISH = NetworkRequest("gamma", "gamma", "gamma")


def wish(**changes: object) -> NetworkRequest:
    return dataclasses.replace(WISH, **changes)  # type: ignore[arg-type]


def test_a_free_wish_on_a_plain_host(host: Host) -> None:
    network = wanted_network(host("plain"), wish(publish=(Publish(18000, 8000),)))
    assert (network.name, network.bridge, network.owner) == ("gamma", "vmt-gamma", "")
    assert network == wanted_network(host("plain"), WISH)


def test_everything_named(host: Host) -> None:
    asked = wish(bridge="cni7", subnet="10.55.0.0/24", owner="instance gamma")
    assert wanted_network(host("busy"), asked) == Network("gamma", "cni7", "10.55.0.0/24", "instance gamma")


def test_a_bridge_of_that_name_is_avoided_when_the_name_is_ours_to_choose(host: Host) -> None:
    facts = dataclasses.replace(host("plain"), links=(("vmt-gamma", ""),))
    assert wanted_network(facts, WISH).bridge == bridge_names("gamma")[1]


@pytest.mark.parametrize("name", ["a", "eleven-char", "twelve-chars", "x" * 63])
def test_bridge_names_fit_the_kernel_and_differ(name: str) -> None:
    names = bridge_names(name)
    assert all(4 < len(item) <= BRIDGE_LENGTH for item in names)
    assert len(set(names)) == len(names) >= 5


@pytest.mark.parametrize(("recorded", "asked", "problems"), [
    ("busy", {"bridge": "cni9", "subnet": "10.99.0.0/16"}, [
        "the bridge cni9 exists already (10.77.0.1/24) and is not vmtool's",
        "subnet 10.99.0.0/16 overlaps 10.99.0.0/16 of /etc/cni/net.d/vllmnet.conf"]),
    ("busy", {"bridge": "cni1"}, ["the bridge cni1 is named in /etc/cni/net.d/vllmnet.conf"]),
    ("busy", {"bridge": "eth0"}, ["the network device eth0 exists already (198.51.100.2/24) and is not vmtool's"]),
    ("ours", {"bridge": "vmt-beta"}, ["the bridge vmt-beta exists already (10.66.0.1/24) and is not vmtool's",
                                      "the bridge vmt-beta is that of vmtool's network beta"]),
    ("busy", {"netns_name": "foreign"}, ["the network namespace foreign exists already (ip netns list)"]),
    ("busy", {"publish": (Publish(5432, 1), Publish(9443, 1), Publish(2222, 1), Publish(9090, 1))}, [
        "published port 127.0.0.1:5432:1: something listens on 127.0.0.1:5432 (ss -Htlnp)",
        "published port 127.0.0.1:9443:1: the iptables chain CNI-DN-263c52b669f877d5562d8 sends it elsewhere",
        "published port 127.0.0.1:9090:1: something listens on *:9090 (ss -Htlnp)"]),
    ("busy", {"publish": (Publish(8080, 1, "0.0.0.0"), Publish(1, 1, "203.0.113.9"))}, [
        "published port 0.0.0.0:8080:1: the iptables chain DOCKER sends it elsewhere",
        "published port 203.0.113.9:1:1: 203.0.113.9 is no address of this host"]),
    ("ours", {"publish": (Publish(18000, 8000),)}, [
        "published port 127.0.0.1:18000:8000: the iptables chain CNI-DN-88bf3d57ee84cc86157c2 sends it elsewhere"]),
    ("plain", {"shared": True}, ["there is no network gamma"]),
    ("ours", {"name": "beta", "shared": True, "container_id": "beta"}, [
        "iptables chain CNI-236d2f78a1b11d5b1300f590 of a container beta in a network beta exists already: another "
        "state directory has one, or it is left from one"]),
])
def test_what_the_host_has_against_it(host: Host, recorded: str, asked: dict[str, object],
                                      problems: list[str]) -> None:
    with pytest.raises(NotReady) as caught:
        wanted_network(host(recorded), wish(**asked))
    assert list(caught.value.details) == problems


@pytest.mark.parametrize(("recorded", "asked", "problem"), [
    ("plain", {"subnet": "10.1.2.3/24"}, "subnet 10.1.2.3/24 has host bits"),
    ("plain", {"bridge": "has space"}, "bridge 'has space': a bridge's name is"),
    ("plain", {"bridge": "b" * 16}, "a bridge's name is"),
    ("plain", {"publish": (Publish(1, 1), Publish(1, 2, "0.0.0.0"))}, "published port 0.0.0.0:1:2 is asked for twice"),
    ("ours", {"name": "alpha", "bridge": "other"}, "the network alpha is on bridge vmt-alpha, not other"),
    ("ours", {"name": "beta", "subnet": "10.1.0.0/24"}, "the network beta has the subnet 10.66.0.0/24"),
    ("ours", {"name": "alpha", "owner": "instance alpha"}, "the name alpha is taken by a network of `vmtool net add`"),
])
def test_what_is_wrong_with_the_wish(host: Host, recorded: str, asked: dict[str, object], problem: str) -> None:
    with pytest.raises(Refused) as caught:
        wanted_network(host(recorded), wish(**asked))
    assert any(problem in line for line in caught.value.details), caught.value.details


def test_form_and_host_are_complained_of_together(host: Host) -> None:
    with pytest.raises(Refused) as caught:
        wanted_network(host("busy"), wish(bridge="1cni", publish=(Publish(5432, 1),), netns_name="foreign"))
    assert len(caught.value.details) == 3


def test_an_instances_network_is_nobody_elses(host: Host) -> None:
    facts = dataclasses.replace(host("plain"), ours=(Network("x", "vmt-x", "10.1.0.0/24", "instance x"),))
    for asked in (wish(name="x", shared=True), wish(name="x", owner="instance y"), wish(name="x")):
        with pytest.raises(Refused) as caught:
            wanted_network(facts, asked)
        assert caught.value.details[0] == "the network x is private: it belongs to instance x"


def test_a_shared_network_is_used_as_it_is(host: Host) -> None:
    asked = wish(name="beta", shared=True, owner="instance gamma", container_id="gamma", netns_name="vmtool-gamma")
    assert wanted_network(host("ours"), asked) == host("ours").network("beta")


def test_a_host_without_plugins_and_iptables(host: Host) -> None:
    plugins = Plugins("/opt/cni/bin", ("portmap",), ("0.4.0",))
    facts = dataclasses.replace(host("plain"), iptables=False, plugins=plugins)
    with pytest.raises(NotReady) as caught:
        wanted_network(facts, WISH)
    assert caught.value.details == ("the CNI plugin portmap is not installed",
                                    "iptables is not installed, or may not be asked (are you root?)")
    assert caught.value.hint.startswith("apt-get install containernetworking-plugins")
    assert caught.value.code == 3


def test_a_host_that_does_not_tell_its_addresses_gets_no_network() -> None:
    with pytest.raises(NotReady) as caught:
        wanted_network(NetworkFacts(), WISH)
    assert "ip (iproute2) does not answer, so nothing is known of the host's addresses and routes" in (
        caught.value.details)


def test_plugins_too_old(host: Host) -> None:
    facts = dataclasses.replace(host("plain"), plugins=Plugins("/opt/cni/bin", (), ("0.3.1",)))
    with pytest.raises(NotReady) as caught:
        wanted_network(facts, WISH)
    assert caught.value.details == ("the CNI plugins in /opt/cni/bin speak none of the versions 1.0.0, 0.4.0",)
