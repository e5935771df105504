"""Defining and starting a domain: a worker."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.libvirt.workers import domains
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """Where libvirt is, the domain's description, and the file that receives the pid of its QEMU."""

    uri: str
    xml: Path
    pidfile: Path


def run(order: Order, host: Host) -> None:
    """Do it; a domain that does not start is not left behind."""
    text = host.read(order.xml).decode()
    ElementTree.fromstring(text)  # noqa: S314  (vmtool's own rendering)
    with domains.connected(order.uri) as connection:
        host.write(order.pidfile, f"{domains.start(connection, text, host)}\n")
