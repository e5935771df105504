"""Reasons against a subnet that a user names."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.net.facts import NetworkFacts
from vmtool.net.subnet import AUTO, PRIVATE, network_or_none, occupied


def check_syntax(subnet: str) -> Iterator[Finding]:
    """What is wrong with a subnet that a user named, by itself."""
    try:
        network = IPv4Network(subnet, strict=False)
    except ValueError:
        yield wrong_input("net.subnet.address",
                          f"subnet {subnet!r} is neither {AUTO!r} nor an IPv4 network such as 10.201.7.0/24")
        return
    if "/" not in subnet or str(network) != subnet:
        yield wrong_input("net.subnet.host-bits",
                          f"subnet {subnet} has host bits or no prefix length; its network is {network}")
    if not 16 <= network.prefixlen <= 29:
        yield wrong_input("net.subnet.length", f"subnet {subnet}: the prefix length is 16 to 29")
    if not any(network.subnet_of(private) for private in PRIVATE):
        yield wrong_input("net.subnet.public", f"subnet {subnet} is not private address space (10/8, 172.16/12, "
                          "192.168/16, 100.64/10)")


def check_overlap(facts: NetworkFacts, subnet: str) -> Iterator[Finding]:
    """Everything that a subnet overlaps, each named."""
    wanted = network_or_none(subnet)
    if wanted is None:
        return
    seen = set()
    for network, what in occupied(facts):
        if wanted.overlaps(network) and what not in seen:
            seen.add(what)
            yield host_lacks("net.subnet.overlap", f"subnet {subnet} overlaps {what}")
