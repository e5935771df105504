"""The iptables rules that vmtool adds to those of the CNI plugins, each with its undo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vmtool.frozen import dataclass
from vmtool.net.iptables import rule_words
from vmtool.net.network import Network
from vmtool.spec.published_port import Publish

# What iptables (legacy and nft) says when a rule, its chain or its table is not there.
GONE = ("does a matching rule exist", "No chain/target/match by that name", "does not exist")

# Where the firewall plugin lets others add rules, and how packets come there: (chain, target).
ADMIN = "CNI-ADMIN"
JUMPS = {("FORWARD", "CNI-FORWARD"), ("CNI-FORWARD", ADMIN)}


@dataclass(frozen=True)
class Rule:
    """A rule of one of the tables.

    Args:
        name: what it is called in findings.
        title: what it is for.
        insert: -I or -A.
        first: it can stand before CNI's plugins have made their chains.
    """

    name: str
    title: str
    table: str
    insert: str
    chain: str
    words: tuple[str, ...]
    first: bool = False

    @property
    def add(self) -> tuple[str, ...]:
        return ("iptables", "-w", "-t", self.table, self.insert, self.chain, *self.words)

    @property
    def delete(self) -> tuple[str, ...]:
        return ("iptables", "-w", "-t", self.table, "-D", self.chain, *self.words)

    def is_in(self, rules: Iterable[tuple[str, str]]) -> bool:
        """Whether it is among (table, rule as `iptables -S` prints it), which has conditions and states in an order of
        its own."""
        wanted = _sorted(("-A", self.chain, *self.words))
        return any(table == self.table and _sorted(rule_words(rule)) == wanted for table, rule in rules)


def _sorted(words: Iterable[str]) -> list[str]:
    return sorted(",".join(sorted(word.split(","))) for word in words)


def host_rules(network: Network, container_id: str, publish: Sequence[Publish], *, firewalld: bool) -> tuple[Rule, ...]:
    """The rules for one container."""
    return tuple(_host_rules(network, f"vmtool {network.name}/{container_id}", publish, firewalld))


def _host_rules(network: Network, comment: str, publish: Sequence[Publish], firewalld: bool) -> Iterator[Rule]:
    commented = ("-m", "comment", "--comment", comment)
    if publish:
        # What is published on 127.0.0.1 is for this host, but portmap's DNAT takes it from every interface, before any
        # rule of INPUT; and portmap sets route_localnet on the bridge, which opens the whole loopback of the host to
        # the container (as in CVE-2020-8558). What is sent to 127.0.0.0/8 comes by lo, or has no business here.
        yield Rule("localnet", "the host's loopback is the host's", "raw", "-I", "PREROUTING",
                   ("!", "-i", "lo", "-d", "127.0.0.0/8", *commented, "-j", "DROP"), first=True)
    if firewalld:
        return  # Then the firewall plugin uses zones instead of CNI-ADMIN.
    # A neighbour of the host, or a container of another network, that routes the subnet through the host would reach
    # every port of the container, published or not.
    yield Rule("unpublished", "only published ports are reached from outside", "filter", "-A", ADMIN,
               ("!", "-i", network.bridge, "-o", network.bridge, "-m", "conntrack", "!", "--ctstate",
                "RELATED,ESTABLISHED,DNAT", *commented, "-j", "DROP"))
    if any(not item.loopback for item in publish):
        # With FORWARD policy DROP the firewall plugin lets answers in, but no new connection from outside.
        yield Rule("forward", "published ports are let through", "filter", "-A", ADMIN,
                   ("-o", network.bridge, "-m", "conntrack", "--ctstate", "DNAT", *commented, "-j", "ACCEPT"))
