"""Which subnet a network gets: one that overlaps nothing, since an overlap hangs or leads packets astray."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from vmtool.errors import NotReady
from vmtool.net.facts import NetworkFacts

AUTO = "auto"
# Private ranges that no container tool takes by default (podman and CRI-O 10.88 and 10.89.., Docker 172.17-31 and
# 192.168, k3s 10.42, kubeadm 10.96 and 10.244); the later ones are for hosts whose VPN has a route for all of 10/8.
POOLS = tuple(map(IPv4Network, ("10.200.0.0/13", "172.24.0.0/14", "192.168.192.0/19")))
SIZE = 256  # addresses of a /24
PODMAN = IPv4Network("10.88.0.0/16")
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))


def choose_subnet(facts: NetworkFacts, taken: Iterable[str] = (), *, seed: str = "") -> str:
    """A free /24 in CIDR notation.

    The search begins at a place that depends on `seed`, the network's name: two vmtools that choose at the same
    time choose differently, and the same network mostly gets the same subnet again.

    Raises:
        NotReady: every candidate overlaps something.
    """
    used = [*(network for network, _ in occupied(facts)), *filter(None, map(network_or_none, taken)), PODMAN]
    for pool in POOLS:
        count = pool.num_addresses // SIZE
        start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
        # One is made at a time: to list all of a pool takes longer than the rest of a plan.
        for place in range(count):
            candidate = IPv4Network((int(pool[0]) + (start + place) % count * SIZE, 24))
            if not any(candidate.overlaps(other) for other in used):
                return str(candidate)
    raise NotReady("no private /24 is free of routes, bridges, CNI configurations and leases",
                   hint="name a subnet: vmtool net add NAME --subnet CIDR; `ip route show table all` lists the routes")


def occupied(facts: NetworkFacts) -> Iterator[tuple[IPv4Network, str]]:
    """Every IPv4 network that something on the host uses, and what uses it."""
    named = [*((own.subnet, f"vmtool's network {own.name} ({own.subnet})") for own in facts.ours),
             *((route.dst, f"the route {route.dst} dev {route.dev}") for route in facts.routes),
             *((item.cidr, f"the address {item.cidr} of {item.dev}") for item in facts.addresses),
             *((subnet, f"{subnet} of {item.path}") for item in facts.conflists for subnet in item.subnets),
             *((lease.ip, f"the lease {lease.path}") for lease in facts.leases)]
    for text, what in named:
        network = network_or_none(text)
        # A multicast or broadcast route, or a default route written as 0.0.0.0/0, is in nobody's way.
        if network is not None and network.prefixlen > 0:
            yield network, what


def network_or_none(text: str) -> IPv4Network | None:
    """The IPv4 network of an address or CIDR; None for anything else, such as IPv6."""
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None
