"""Framebuffers that the firmware set up in a GPU's memory, which the kernel draws on until a real driver comes.

They lie inside of a BAR, and while one does no machine can have that BAR ("BAR 0: can't reserve", vfio-pci says when a
guest starts). The kernel has each as a platform device, since 6.9 below its PCI device in the tree and before that
below none: then /proc/iomem tells whose memory it is in.
"""

from __future__ import annotations

import re

from vmtool.frozen import dataclass
from vmtool.gpu.pci import BDF
from vmtool.machine import Reader

PLATFORM = "/sys/bus/platform"
# simplefb and simpledrm; efifb and efidrm; vesafb and vesadrm; ofdrm.
DRIVERS = ("simple-framebuffer", "efi-framebuffer", "vesa-framebuffer", "of-display")
DEVICE = re.compile(rf"/((?:{'|'.join(DRIVERS)})\.\d+)(?:/|$)")
# How they call their memory. BOOTFB is the platform device's own and stays when its driver lets go.
OWN_REGION = "BOOTFB"
REGIONS = re.compile(rf"{OWN_REGION}|(?:simple|efi|vesa|of)(?:fb|drm)|\S+-framebuffer(?:\.\d+)?")


@dataclass(frozen=True)
class Framebuffer:
    """A firmware framebuffer in a PCI device's memory.

    Args:
        device: the platform device, such as simple-framebuffer.0; empty when none is bound to a driver.
        driver: that it is bound to.
        regions: names of its memory in /proc/iomem.
    """

    bdf: str
    device: str
    driver: str
    regions: tuple[str, ...]

    @property
    def directory(self) -> str:
        """The platform device in /sys."""
        return f"{PLATFORM}/devices/{self.device}"

    @property
    def label(self) -> str:
        """Its names, for a person."""
        return ", ".join(dict.fromkeys((*((self.device,) if self.device else ()), *self.regions)))


def read_framebuffers(reader: Reader) -> tuple[Framebuffer, ...]:
    """The firmware framebuffers whose PCI device is known."""
    memory = {bdf: regions for bdf, names in inside_bars(reader.text("/proc/iomem") or "").items()
              if (regions := tuple(name for name in names if REGIONS.fullmatch(name)))}
    found: dict[str, Framebuffer] = {}
    for device, (driver, way) in _platform_devices(reader).items():
        # One whose place in the tree tells no PCI device is the owner of such memory: the firmware sets up one display.
        for bdf in BDF.findall(way)[-1:] or list(memory):
            found.setdefault(bdf, Framebuffer(bdf, device, driver, memory.get(bdf, ())))
    for bdf, regions in memory.items():
        found.setdefault(bdf, Framebuffer(bdf, "", "", regions))
    return tuple(found.values())


def inside_bars(text: str) -> dict[str, tuple[str, ...]]:
    """What lies inside the BARs of each PCI device, by the names in /proc/iomem: nothing, unless somebody uses them.

    The file is a tree by its indentation, and a BAR is called like its device. A virtual function's BARs lie inside of
    its physical function's.
    """
    found: dict[str, list[str]] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        depth, name = len(line) - len(line.lstrip()), line.partition(" : ")[2].strip()
        while above and above[-1][0] >= depth:
            above.pop()
        is_bar = BDF.fullmatch(name) is not None
        for _, bdf in above:
            if bdf and not is_bar and name not in found.setdefault(bdf, []):
                found[bdf].append(name)
        above.append((depth, name if is_bar else ""))
    return {bdf: tuple(names) for bdf, names in found.items()}


def _platform_devices(reader: Reader) -> dict[str, tuple[str, str]]:
    """Platform device -> (its driver, its way through the device tree), of those that a driver is bound to."""
    found = {name: (driver, reader.link(f"{PLATFORM}/drivers/{driver}/{name}") or "")
             for driver in DRIVERS for name in reader.names(f"{PLATFORM}/drivers/{driver}") if "." in name}
    for directory in ("/sys/class/graphics", "/sys/class/drm"):
        for name in reader.names(directory):
            way = reader.link(f"{directory}/{name}") or ""
            if match := DEVICE.search(way):
                found.setdefault(match[1], (match[1].rpartition(".")[0], way))
    return found
