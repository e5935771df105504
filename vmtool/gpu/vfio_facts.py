"""VFIO in the running kernel: the modules it could load, the drivers it has, and what they were loaded with."""

from __future__ import annotations

from vmtool.frozen import dataclass
from vmtool.gpu.iommu import GROUPS, read_dma_entries
from vmtool.gpu.pci import DRIVERS
from vmtool.machine import Reader


@dataclass(frozen=True)
class VfioFacts:
    """What binding to VFIO depends on.

    Args:
        release: the kernel's, as `uname -r`.
        drivers: PCI drivers that are registered now.
        aliases: (pattern of a device's modalias, module) of vfio-pci and its variants, from modules.alias.
        available: vfio-pci can be loaded, is loaded or is built in.
        idle_d3: vfio-pci was loaded without disable_idle_d3, so it lets unused devices sleep; None when not loaded.
        noiommu: enable_unsafe_noiommu_mode is set.
        remapped: whether the IOMMU remaps interrupts, without which VFIO refuses a device to every machine (EPERM);
            None where this is unknown (only Intel's shows it).
        groups: number of IOMMU groups.
        dma_entries: mappings that legacy VFIO allows a machine; None when its module is not loaded.
    """

    release: str
    drivers: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...]
    available: bool
    idle_d3: bool | None
    noiommu: bool
    remapped: bool | None
    groups: int
    dma_entries: int | None = None


def read_vfio(reader: Reader) -> VfioFacts:
    """Read /lib/modules of the running kernel and /sys."""
    release = (reader.text("/proc/sys/kernel/osrelease") or "").strip()
    modules = f"/lib/modules/{release}"
    drivers = reader.names(DRIVERS)
    idle = (reader.text("/sys/module/vfio_pci/parameters/disable_idle_d3") or "").strip()
    return VfioFacts(
        release=release,
        drivers=drivers,
        aliases=_aliases(reader.text(f"{modules}/modules.alias") or ""),
        available="vfio-pci" in drivers or any("/vfio-pci.ko" in (reader.text(f"{modules}/{name}") or "")
                                               for name in ("modules.dep", "modules.builtin")),
        idle_d3=idle != "Y" if idle else None,
        noiommu=(reader.text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode") or "").strip() in ("Y", "1"),
        remapped=_remapped(reader),
        groups=len(reader.names(GROUPS)),
        dma_entries=read_dma_entries(reader),
    )


def _remapped(reader: Reader) -> bool | None:
    """Bit 3 of the extended capabilities of every unit (VT-d specification, 11.4.3), unless the command line or an
    option of vfio_iommu_type1 decides."""
    unsafe = reader.text("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts") or ""
    if unsafe.strip() == "Y":
        return None
    units = [reader.text(f"/sys/class/iommu/{name}/intel-iommu/ecap") for name in reader.names("/sys/class/iommu")]
    reported = [int(text, 16) for text in units if text and text.strip()]
    if not reported:
        return None
    off = {"intremap=off", "nointremap"} & set((reader.text("/proc/cmdline") or "").split())
    return not off and all(capabilities & 1 << 3 for capabilities in reported)


def _aliases(text: str) -> tuple[tuple[str, str], ...]:
    """Lines `alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci`; found by a search, since the file
    has twenty thousand lines."""
    found, start = [], text.find("alias vfio_pci:")
    while start >= 0:
        end = text.find("\n", start)
        words = text[start:end if end >= 0 else None].split()
        if len(words) == 3:
            found.append((words[1].removeprefix("vfio_pci:"), words[2]))
        start = text.find("alias vfio_pci:", start + 1)
    return tuple(found)
