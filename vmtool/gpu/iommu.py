"""The IOMMU: whether devices are isolated in groups, and which kernel parameter this processor needs for it."""

from __future__ import annotations

from collections.abc import Iterable

from vmtool.architecture import ARM64
from vmtool.facts.cpu import CpuFacts
from vmtool.facts.kernel import KernelFacts
from vmtool.frozen import dataclass
from vmtool.machine import Reader

PARAMETERS = ("iommu", "intel_iommu", "amd_iommu", "iommu.passthrough", "iommu.strict", "arm_smmu.disable_bypass",
              "arm_smmu_v3.disable_ecmdq", "arm_smmu_v3.disable_bypass", "pcie_acs_override")


GROUPS = "/sys/kernel/iommu_groups"
# What vfio_iommu_type1 is loaded with, unless configured (dma_entry_limit in drivers/vfio/vfio_iommu_type1.c).
DMA_ENTRIES = 65535
PAGE = 4096
VFIO_TYPE1 = "/sys/module/vfio_iommu_type1/parameters"


@dataclass(frozen=True)
class IommuFacts:
    """The IOMMU.

    Args:
        groups: number of IOMMU groups; 0 when devices cannot be passed to a guest.
        units: the IOMMUs the kernel drives, such as dmar0, ivhd0, smmu3.0x...
        parameters: words of the kernel command line that concern it.
        enable: what to do on this processor so that groups appear.
        vfio_group: /dev/vfio/vfio exists, the node that legacy VFIO goes through.
        iommufd: /dev/iommu exists, the node that newer VFIO goes through.
        dma_entries: mappings that legacy VFIO allows a machine (dma_entry_limit); None when its module is not loaded.
    """

    groups: int
    units: tuple[str, ...]
    parameters: tuple[str, ...]
    enable: str
    vfio_group: bool
    iommufd: bool
    dma_entries: int | None = None


def read_iommu(reader: Reader, cpu: CpuFacts, kernel: KernelFacts) -> IommuFacts:
    """Read /sys/kernel/iommu_groups, /sys/class/iommu and the VFIO nodes."""
    named = [(name, kernel.parameter(name)) for name in PARAMETERS]
    return IommuFacts(
        groups=len(reader.names(GROUPS)),
        units=reader.names("/sys/class/iommu"),
        parameters=tuple(f"{name}={value}" if value else name for name, value in named if value is not None),
        enable=_enable(cpu, kernel),
        vfio_group=reader.exists("/dev/vfio/vfio"),
        iommufd=reader.exists("/dev/iommu"),
        dma_entries=read_dma_entries(reader),
    )


def read_dma_entries(reader: Reader) -> int | None:
    """How many mappings legacy VFIO allows a machine; None when its module is not loaded."""
    text = (reader.text(f"{VFIO_TYPE1}/dma_entry_limit") or "").strip()
    return int(text) if text.isdecimal() else None


def dma_entries_for(memory: int) -> int:
    """Mappings that a confidential guest may come to need by legacy VFIO: each 4 KiB page that it shares is one."""
    return 1 << (memory // PAGE - 1).bit_length()


def set_dma_entries(needed: int, current: int | None) -> str:
    """The line that allows so many to machines that start from then on."""
    if current is None:
        return f"modprobe vfio_iommu_type1 dma_entry_limit={needed}"
    return f"echo {needed} > {VFIO_TYPE1}/dma_entry_limit"


def read_reserved(reader: Reader, groups: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The address ranges of IOMMU groups that must be mapped one to one at all times (type "direct"), so that the
    kernel gives such a group to no machine: Intel's RMRRs, AMD's unity maps, Arm's RMRs.

    "direct-relaxable" are those of USB and graphics, which the kernel lets go of
    (Documentation/ABI/testing/sysfs-kernel-iommu_groups).
    """
    found = {}
    for group in groups:
        words = [line.split() for line in (reader.text(f"{GROUPS}/{group}/reserved_regions") or "").splitlines()]
        if ranges := tuple(f"{each[0]}-{each[1]}" for each in words if each[2:] == ["direct"]):
            found[group] = ranges
    return found


def _enable(cpu: CpuFacts, kernel: KernelFacts) -> str:
    """Intel's is off by default in many kernels; AMD's and Arm's are on once the firmware describes them.

    Documentation/admin-guide/kernel-parameters.txt: there is no `amd_iommu=on`.
    """
    if cpu.in_guest:
        return "this host is itself a virtual machine: give it a virtual IOMMU, or use a bare machine"
    if cpu.vendor == "GenuineIntel":
        return "turn on VT-d in the firmware and boot with the kernel parameter intel_iommu=on"
    if cpu.vendor in ("AuthenticAMD", "HygonGenuine"):
        off = kernel.parameter("amd_iommu") == "off" or kernel.parameter("iommu") == "off"
        return "turn on IOMMU (AMD-Vi) in the firmware" + (
            " and boot without amd_iommu=off and iommu=off" if off else "; no kernel parameter is needed")
    if cpu.arch == ARM64.machine:
        return "turn on SMMU in the firmware; no kernel parameter is needed"
    return "turn on the IOMMU in the firmware"
