"""Which driver of the VFIO family a device wants: vfio-pci, or the variant that modules.alias names for it.

Variants carry what plain vfio-pci cannot, such as Grace Hopper's coherent memory (nvgrace-gpu-vfio-pci). The kernel
marks them with aliases of the scheme vfio_pci: instead of pci: (include/linux/mod_devicetable.h,
PCI_ID_F_VFIO_DRIVER_OVERRIDE).
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from vmtool.frozen import dataclass
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.vfio_facts import VfioFacts

PLAIN = "vfio-pci"
# Other drivers that leave their devices' DMA alone (driver_managed_dma), so that the group stays viable.
HARMLESS = ("pcieport", "pci-stub")


@dataclass(frozen=True)
class Choice:
    """A driver as driver_override wants it, and its module as modprobe does."""

    driver: str
    module: str


def choose_driver(vfio: VfioFacts, device: PciDevice) -> Choice:
    """The driver with the most exact alias, as libvirt chooses too; vfio-pci when there is none."""
    modalias = device.modalias.removeprefix("pci:")
    matching = [(pattern.count("*"), module) for pattern, module in vfio.aliases if fnmatchcase(modalias, pattern)]
    module = min(matching)[1] if matching else "vfio_pci"
    return Choice(_driver_name(module, vfio.drivers), PLAIN if module == "vfio_pci" else module)


def is_vfio(driver: str) -> bool:
    """Whether a driver is vfio-pci or one of its variants."""
    return driver.replace("_", "-").endswith("vfio-pci")


def leaves_viable(driver: str) -> bool:
    """Whether the kernel gives a device's IOMMU group to a machine although the device has this driver ("": none)."""
    return not driver or is_vfio(driver) or driver in HARMLESS


def _driver_name(module: str, drivers: tuple[str, ...]) -> str:
    """A module's name has `_` where its driver's may have `-`: a loaded one shows; unloaded, only vfio-pci itself is
    known to differ (the variants are named by KBUILD_MODNAME)."""
    loaded = next((driver for driver in drivers if driver.replace("-", "_") == module), None)
    return loaded or (PLAIN if module == "vfio_pci" else module)
