"""Which of some devices are still open, a line for each: a worker, since a driver can block who asks."""

from __future__ import annotations

from vmtool.frozen import dataclass
from vmtool.gpu.vfio_in_use import devices_in_use
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """The devices' directories below /sys."""

    directories: tuple[str, ...]


def run(order: Order, host: Host) -> None:
    """Print the lines."""
    for line in devices_in_use(host, order.directories):
        print(line)
