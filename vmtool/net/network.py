"""A container network of vmtool, who is attached to it, and where its files lie."""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.records import record_of
from vmtool.spec.published_port import Publish

RECORD = "network.json"
# Lists, beside the networks, the iptables chains that were absent before the first of them.
MARKER = "chains-made"
NETNS = Path("/var/run/netns")
# IFNAMSIZ is 16 with the closing zero.
BRIDGE_LENGTH = 15


@dataclass(frozen=True)
class Network:
    """A network that exists or shall exist.

    Args:
        subnet: IPv4 network in CIDR notation; the bridge has its first address.
        owner: empty for one of `vmtool net add`; else the transaction that it comes and goes with, such as
            "instance quickstart".
    """

    name: str
    bridge: str
    subnet: str
    owner: str = ""

    @property
    def gateway(self) -> str:
        """The bridge's address."""
        return str(ipaddress.IPv4Network(self.subnet)[1])


@dataclass(frozen=True)
class Attachment:
    """A network namespace that is attached to a network.

    Args:
        owner: as in `Network`: who attached it.
        directory: where its plugin configurations and results lie.
    """

    network: str
    container_id: str
    netns: str
    directory: str
    owner: str = ""
    publish: tuple[Publish, ...] = ()


def netns_path(name: str) -> Path:
    """Where `ip netns add NAME` puts a network namespace."""
    return NETNS / name


def result_path(directory: Path) -> Path:
    """The last plugin's answer to ADD, in the attachment's directory; `address_of` reads it."""
    return directory / "result.json"


def bridge_names(name: str) -> tuple[str, ...]:
    """Names for a network's bridge, best first: its own when short enough, else one with a hash."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    plain = f"vmt-{name}"
    hashed = (f"vmt-{name[:4]}-{digest[:6]}", *(f"vmt-{digest[start:start + 8]}" for start in range(0, 32, 8)))
    return (plain, *hashed) if len(plain) <= BRIDGE_LENGTH else hashed


def container_chains(network: str, container_id: str) -> tuple[tuple[str, str], ...]:
    """(table, chain) of the iptables chains that the bridge and portmap plugins make for one container.

    Both plugins use SHA-512 of the two names, cut to the kernel's 28 characters (plugins/pkg/utils/utils.go).
    """
    digest = hashlib.sha512(f"{network}{container_id}".encode()).hexdigest()
    return ("nat", f"CNI-{digest}"[:28]), ("nat", f"CNI-DN-{digest}"[:28])


def network_of(text: str) -> Network | None:
    """The network of a record; None when the text is no such record."""
    try:
        network = record_of(Network, text)
        ipaddress.IPv4Network(network.subnet)
    except ValueError:
        return None
    return network


def attachment_of(text: str) -> Attachment | None:
    """The attachment of a record; None when the text is no such record."""
    try:
        return record_of(Attachment, text)
    except ValueError:
        return None
