"""The host's network as it is: addresses, routes, bridges, CNI's files, iptables, listeners, vmtool's own networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.net.cni_facts import Conflist, Lease, Plugins, read_conflists, read_leases, read_plugins, version_questions
from vmtool.net.iproute import read_objects
from vmtool.net.iptables import Chain, Published, iptables_questions, read_iptables
from vmtool.net.network import MARKER, RECORD, Attachment, Network, attachment_of, network_of
from vmtool.paths import State

NO_PLUGINS = Plugins()
# All devices with their addresses.
LINKS = ("ip", "-j", "addr")
BRIDGES = ("ip", "-j", "link", "show", "type", "bridge")
ROUTES = ("ip", "-j", "route", "show", "table", "all")
LISTENERS = ("ss", "-Htln")


@dataclass(frozen=True)
class Route:
    """A route in any table. `dst` is in CIDR notation or a bare address; default routes are left out."""

    dst: str
    dev: str


@dataclass(frozen=True)
class HostAddress:
    """An IPv4 address of a network device; `cidr` is address and prefix length."""

    dev: str
    cidr: str


@dataclass(frozen=True)
class Listener:
    """A TCP socket that listens; the address may be 0.0.0.0, :: or *."""

    ip: str
    port: int


@dataclass(frozen=True)
class NetworkFacts:
    """What a network of vmtool must live with.

    Args:
        links: (name, bridge that it is a port of or "") of every network device.
        chains: of CNI's plugins.
        iptables: whether iptables answered.
        forward_policy: of the filter table, such as ACCEPT or DROP; empty when it could not be read.
        firewalld: whether firewalld runs.
        ours: networks below vmtool's state directory, with who is attached and their leases.
        chains_made: the shared chains that were absent before vmtool's first network.
    """

    routes: tuple[Route, ...] = ()
    addresses: tuple[HostAddress, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    bridges: tuple[str, ...] = ()
    conflists: tuple[Conflist, ...] = ()
    leases: tuple[Lease, ...] = ()
    netns: tuple[str, ...] = ()
    plugins: Plugins = NO_PLUGINS
    iptables: bool = False
    chains: tuple[Chain, ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    published: tuple[Published, ...] = ()
    forward_policy: str = ""
    firewalld: bool = False
    listeners: tuple[Listener, ...] = ()
    ours: tuple[Network, ...] = ()
    attached: tuple[Attachment, ...] = ()
    our_leases: tuple[Lease, ...] = ()
    chains_made: tuple[Chain, ...] = ()

    def network(self, name: str) -> Network | None:
        """vmtool's own network of that name."""
        return next((network for network in self.ours if network.name == name), None)


def network_questions(reader: Reader) -> tuple[tuple[str, ...], ...]:
    """The programs that `read_network` runs."""
    return (*iptables_questions(), LINKS, BRIDGES, ROUTES, LISTENERS, *version_questions(reader))


def read_network(reader: Reader, state: State | None = None) -> NetworkFacts:
    """Read everything; what cannot be read is empty. Without `state`, vmtool's own networks are left out."""
    # The chains before vmtool's networks: a network that appears in between then owns the chains it made.
    iptables = read_iptables(reader)
    ours = read_networks(reader, state) if state else ()
    rooms = [str(state.network(network.name)) for network in ours] if state else []
    links = [item for item in read_objects(reader, *LINKS) if "ifname" in item]
    return NetworkFacts(
        routes=_routes(reader), addresses=_addresses(links),
        links=tuple((str(item["ifname"]), str(item.get("master", ""))) for item in links),
        bridges=tuple(str(item["ifname"]) for item in read_objects(reader, *BRIDGES)
                      if "ifname" in item),
        conflists=read_conflists(reader), leases=read_leases(reader, "/var/lib/cni/networks"),
        netns=reader.names("/var/run/netns"), plugins=read_plugins(reader), iptables=iptables.answers,
        chains=iptables.chains, rules=iptables.rules, published=iptables.published,
        forward_policy=iptables.forward_policy, firewalld=reader.exists("/run/firewalld.pid"),
        listeners=_listeners(reader), ours=ours,
        attached=tuple(item for network in ours if state for item in read_attachments(reader, state, network.name)),
        our_leases=tuple(lease for room in rooms for lease in read_leases(reader, f"{room}/leases")),
        chains_made=_chains_made(reader, state) if state else ())


def read_networks(reader: Reader, state: State) -> tuple[Network, ...]:
    """vmtool's own networks, by name."""
    texts = (reader.text(f"{state.networks}/{name}/{RECORD}") for name in reader.names(str(state.networks)))
    return tuple(network for text in texts if text and (network := network_of(text)))


def _chains_made(reader: Reader, state: State) -> tuple[Chain, ...]:
    lines = (reader.text(f"{state.networks}/{MARKER}") or "").splitlines()
    return tuple((table, chain) for table, _, chain in (line.partition(" ") for line in lines))


def read_attachments(reader: Reader, state: State, network: str) -> tuple[Attachment, ...]:
    """Who is attached to one of vmtool's networks."""
    directory = f"{state.network(network)}/attached"
    texts = (reader.text(f"{directory}/{name}") for name in reader.names(directory))
    return tuple(attachment for text in texts if text and (attachment := attachment_of(text)))


def _routes(reader: Reader) -> tuple[Route, ...]:
    found = (Route(str(item["dst"]), str(item.get("dev", item.get("type", ""))))
             for item in read_objects(reader, *ROUTES) if "dst" in item)
    return tuple(route for route in found if route.dst != "default" and ":" not in route.dst)


def _addresses(links: Sequence[Mapping[str, Any]]) -> tuple[HostAddress, ...]:
    return tuple(HostAddress(str(link["ifname"]), f"{item['local']}/{item.get('prefixlen', 32)}")
                 for link in links for item in link.get("addr_info", ())
                 if item.get("family") == "inet" and "local" in item)


def _listeners(reader: Reader) -> tuple[Listener, ...]:
    """From `ss -Htln`: State Recv-Q Send-Q Local:Port Peer:Port. An address may carry %device."""
    output = reader.run(LISTENERS)
    found = []
    for line in output.out.splitlines() if output else ():
        ip, _, port = (line.split() + [""] * 4)[3].rpartition(":")
        if port.isdigit():
            found.append(Listener(ip.partition("%")[0].strip("[]"), int(port)))
    return tuple(found)
