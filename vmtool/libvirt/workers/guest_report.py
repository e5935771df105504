"""What a guest's agent reports: a worker, since a guest need not answer."""

from __future__ import annotations

from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.guest_agent import ask
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """See `vmtool.libvirt.actions.GuestRequest`."""

    channel: Path
    pidfile: Path
    console: Path


def run(order: Order, host: Host) -> None:
    """Print the report."""
    print(ask(host, GuestRequest(order.channel, "report", order.pidfile, order.console)), end="")
