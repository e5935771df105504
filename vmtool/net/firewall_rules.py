"""The iptables rules that vmtool adds to those of the CNI plugins, each with its undo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmtool.net.network import Network
from vmtool.spec.published_port import Publish

# What iptables (legacy and nft) says when a rule, its chain or its table is not there.
GONE = ("does a matching rule exist", "No chain/target/match by that name", "does not exist")


@dataclass(frozen=True)
class Rule:
    """A rule of the filter table."""

    insert: str
    chain: str
    words: tuple[str, ...]

    @property
    def add(self) -> tuple[str, ...]:
        return ("iptables", "-w", "-t", "filter", self.insert, self.chain, *self.words)

    @property
    def delete(self) -> tuple[str, ...]:
        return ("iptables", "-w", "-t", "filter", "-D", self.chain, *self.words)


def host_rules(network: Network, container_id: str, publish: Sequence[Publish], *, firewalld: bool) -> tuple[Rule, ...]:
    """The rules for one container."""
    return tuple(_host_rules(network, f"vmtool {network.name}/{container_id}", publish, firewalld))


def _host_rules(network: Network, comment: str, publish: Sequence[Publish], firewalld: bool) -> Iterator[Rule]:
    commented = ("-m", "comment", "--comment", comment)
    if any(item.loopback for item in publish):
        # portmap sets route_localnet on the bridge so that answers to 127.0.0.1 find their way; without this rule a
        # container could then talk to everything that listens on the host's loopback (as in CVE-2020-8558).
        yield Rule("-I", "INPUT", ("-i", network.bridge, "-d", "127.0.0.0/8", "-m", "conntrack", "--ctstate",
                                   "NEW,INVALID", *commented, "-j", "DROP"))
    if firewalld:
        return  # Then the firewall plugin uses zones instead of CNI-ADMIN.
    # A neighbour of the host, or a container of another network, that routes the subnet through the host would reach
    # every port of the container, published or not.
    yield Rule("-A", "CNI-ADMIN", ("!", "-i", network.bridge, "-o", network.bridge, "-m", "conntrack", "!", "--ctstate",
                                   "RELATED,ESTABLISHED,DNAT", *commented, "-j", "DROP"))
    if any(not item.loopback for item in publish):
        # With FORWARD policy DROP the firewall plugin lets answers in, but no new connection from outside.
        yield Rule("-A", "CNI-ADMIN", ("-o", network.bridge, "-m", "conntrack", "--ctstate", "DNAT", *commented,
                                       "-j", "ACCEPT"))
