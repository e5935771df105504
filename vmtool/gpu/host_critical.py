"""What this host itself stands on: the disks that are mounted, the network device of its default route.

Found through the links below /sys/class, whose targets spell the way through the device tree:
../../devices/pci0000:00/0000:00:1c.0/0000:02:00.0/nvme/nvme0/nvme0n1
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmtool.frozen import dataclass
from vmtool.gpu.pci import BDF
from vmtool.machine import Reader

DEPTH = 8


@dataclass(frozen=True)
class HostCriticalDevice:
    """A device that the host needs; `why` is such as "its disk nvme0n1 is mounted on /"."""

    bdf: str
    why: str


def read_host_critical(reader: Reader) -> tuple[HostCriticalDevice, ...]:
    """Every PCI device on the way to a mounted disk, swap or the default route's network device."""
    found: dict[str, HostCriticalDevice] = {}
    for name, use in (*_mounted(reader), *_swaps(reader)):
        for disk in _disks(reader, name):
            for bdf in BDF.findall(_way(reader, disk)):
                found.setdefault(bdf, HostCriticalDevice(bdf, f"its disk {disk} is {use}"))
    for name in _default_devices(reader):
        for device in _lower(reader, name):
            for bdf in BDF.findall(reader.link(f"/sys/class/net/{device}") or ""):
                found.setdefault(bdf, HostCriticalDevice(bdf, f"the default route goes through its {device}"))
    return tuple(found.values())


def _mounted(reader: Reader) -> Iterator[tuple[str, str]]:
    """(block device's name, how it is used), by device number: a path in /dev may be any of its names."""
    for line in (reader.text("/proc/self/mountinfo") or "").splitlines():
        words = line.split()
        if len(words) > 4 and not words[2].startswith("0:"):
            yield _last(reader.link(f"/sys/dev/block/{words[2]}")), f"mounted on {words[4]}"
            continue
        # btrfs and others have a number of their own; their source is the device's path.
        source = line.partition(" - ")[2].split()
        if len(source) > 1 and source[1].startswith("/dev/"):
            yield source[1].removeprefix("/dev/").removeprefix("mapper/"), f"mounted on {words[4]}"


def _swaps(reader: Reader) -> Iterator[tuple[str, str]]:
    for line in (reader.text("/proc/swaps") or "").splitlines()[1:]:
        if line.startswith("/dev/"):
            yield line.split()[0].removeprefix("/dev/"), "swap"


def _disks(reader: Reader, name: str, depth: int = DEPTH) -> Iterator[str]:
    """The block device, and those below it when it is made of others (device-mapper, md)."""
    if name:
        yield name
    if depth and name:
        for slave in reader.names(f"/sys/class/block/{name}/slaves"):
            yield from _disks(reader, slave, depth - 1)


def _way(reader: Reader, disk: str) -> str:
    return reader.link(f"/sys/class/block/{disk}") or ""


def _default_devices(reader: Reader) -> set[str]:
    """Devices of default routes (proc_net(5): destination 00000000 with mask 00000000; IPv6 with prefix length 00)."""
    found = set()
    for line in (reader.text("/proc/net/route") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == words[7] == "00000000":
            found.add(words[0])
    for line in (reader.text("/proc/net/ipv6_route") or "").splitlines():
        words = line.split()
        if len(words) == 10 and re.fullmatch("0{32}", words[0]) and words[1] == "00" and words[9] != "lo":
            found.add(words[9])
    return found


def _lower(reader: Reader, name: str, depth: int = DEPTH) -> Iterator[str]:
    """The network device, and those below a bridge, bond or VLAN."""
    yield name
    if depth:
        for link in reader.names(f"/sys/class/net/{name}"):
            if link.startswith("lower_"):
                yield from _lower(reader, link.removeprefix("lower_"), depth - 1)


def _last(link: str | None) -> str:
    return (link or "").rpartition("/")[2]
