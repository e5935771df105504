"""Destroying and undefining a domain, harmless when there is none: a worker."""

from __future__ import annotations

from vmtool.frozen import dataclass
from vmtool.libvirt.workers import domains
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """Where libvirt is, and the domain's name."""

    uri: str
    name: str


def run(order: Order, host: Host) -> None:
    """Do it."""
    with domains.connected(order.uri) as connection:
        domains.end(connection, order.name, host)
