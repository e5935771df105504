"""The choice of a subnet, and what is said about one that a person chose."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.net.conftest import Host
from vmtool.errors import NotReady
from vmtool.net.check_subnet import check_overlap, check_syntax
from vmtool.net.facts import NetworkFacts, Route
from vmtool.net.subnet import PODMAN, choose_subnet, occupied


def routes(*networks: str) -> NetworkFacts:
    return NetworkFacts(routes=tuple(Route(network, "eth0") for network in networks))


def texts(facts: NetworkFacts, subnet: str) -> list[str]:
    return [item.text for item in check_overlap(facts, subnet)]


@pytest.mark.parametrize("name", ["plain", "busy", "ours"])
def test_auto_overlaps_nothing_that_was_recorded(host: Host, name: str) -> None:
    facts = host(name)
    chosen = IPv4Network(choose_subnet(facts, seed="quickstart"))
    assert chosen.prefixlen == 24
    assert not any(chosen.overlaps(network) for network, _ in occupied(facts))
    assert not chosen.overlaps(PODMAN)


def test_auto_depends_on_the_name_so_that_two_at_once_differ() -> None:
    assert choose_subnet(NetworkFacts(), seed="a") == choose_subnet(NetworkFacts(), seed="a")
    assert choose_subnet(NetworkFacts(), seed="a") != choose_subnet(NetworkFacts(), seed="b")
    assert choose_subnet(NetworkFacts(), [choose_subnet(NetworkFacts(), seed="a")], seed="a") != choose_subnet(
        NetworkFacts(), seed="a")


@pytest.mark.parametrize(("taken", "pool"), [
    (("10.0.0.0/8",), "172.24.0.0/14"), (("10.0.0.0/8", "172.16.0.0/12"), "192.168.192.0/19")])
def test_auto_leaves_a_range_that_a_vpn_took(taken: tuple[str, ...], pool: str) -> None:
    assert IPv4Network(choose_subnet(routes(*taken))).subnet_of(IPv4Network(pool))


def test_auto_with_nothing_left() -> None:
    with pytest.raises(NotReady, match="no private /24 is free"):
        choose_subnet(routes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


@given(st.lists(st.integers(0, 7).map(lambda number: f"10.{200 + number}.0.0/16"), max_size=8))
def test_auto_never_overlaps_a_route(taken: list[str]) -> None:
    chosen = IPv4Network(choose_subnet(routes(*taken), seed="x"))
    assert not any(chosen.overlaps(IPv4Network(network)) for network in taken)


@pytest.mark.parametrize(("subnet", "problems"), [
    ("10.201.7.0/24", []),
    ("10.88.0.0/16", []),
    ("100.64.3.0/28", []),
    ("10.201.7.1/24", ["subnet 10.201.7.1/24 has host bits or no prefix length; its network is 10.201.7.0/24"]),
    ("10.0.0.0/8", ["subnet 10.0.0.0/8: the prefix length is 16 to 29"]),
    ("10.1.2.3", ["subnet 10.1.2.3 has host bits or no prefix length; its network is 10.1.2.3/32",
                  "subnet 10.1.2.3: the prefix length is 16 to 29"]),
    ("8.8.8.0/24", ["subnet 8.8.8.0/24 is not private address space (10/8, 172.16/12, 192.168/16, 100.64/10)"]),
    ("127.0.0.0/24", ["subnet 127.0.0.0/24 is not private address space (10/8, 172.16/12, 192.168/16, 100.64/10)"]),
    ("fd00::/64", ["subnet 'fd00::/64' is neither 'auto' nor an IPv4 network such as 10.201.7.0/24"]),
    ("10.0.0.0/33", ["subnet '10.0.0.0/33' is neither 'auto' nor an IPv4 network such as 10.201.7.0/24"]),
    ("", ["subnet '' is neither 'auto' nor an IPv4 network such as 10.201.7.0/24"]),
])
def test_form(subnet: str, problems: list[str]) -> None:
    assert [item.text for item in check_syntax(subnet)] == problems


@pytest.mark.parametrize(("subnet", "problems"), [
    ("10.55.0.0/24", []),
    ("10.77.0.0/25", ["subnet 10.77.0.0/25 overlaps the route 10.77.0.0/24 dev cni9",
                      "subnet 10.77.0.0/25 overlaps the route 10.77.0.1 dev cni9",
                      "subnet 10.77.0.0/25 overlaps the address 10.77.0.1/24 of cni9"]),
    ("10.99.4.0/24", ["subnet 10.99.4.0/24 overlaps 10.99.0.0/16 of /etc/cni/net.d/vllmnet.conf"]),
    ("192.168.7.0/24", ["subnet 192.168.7.0/24 overlaps the route 192.168.0.0/16 dev blackhole"]),
    ("nonsense", []),
])
def test_overlaps_are_all_named(host: Host, subnet: str, problems: list[str]) -> None:
    assert texts(host("busy"), subnet) == problems


def test_a_lease_without_its_network_is_in_the_way(host: Host) -> None:
    facts = host("busy")
    alone = NetworkFacts(leases=facts.leases)
    assert texts(alone, "10.88.0.0/24") == [
        "subnet 10.88.0.0/24 overlaps the lease /var/lib/cni/networks/podman/10.88.0.2"]


def test_a_network_of_our_own_is_in_the_way_even_without_its_bridge(host: Host) -> None:
    facts = dataclasses.replace(host("ours"), routes=(), addresses=())
    assert texts(facts, "10.66.0.0/16") == [
        "subnet 10.66.0.0/16 overlaps vmtool's network beta (10.66.0.0/24)"]
