"""Reasons why no virtual machine could start with a device although it binds: known before it leaves its driver."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.iommu import DMA_ENTRIES, dma_entries_for, set_dma_entries
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.select import DeviceRequest, is_free
from vmtool.gpu.vfio_driver import is_vfio
from vmtool.tee.tee import Tee

FIRMWARE = ("in the firmware exclude the card's slot from it: HPE's Shared Memory Features (conrep: RMRDS_SlotN = "
            "Endpoints_Excluded), elsewhere what lets the management controller read the card (out-of-band management "
            "of PCI devices, legacy USB support); or use another slot")


def check_machine(facts: GpuFacts, device: PciDevice, request: DeviceRequest) -> Iterator[Finding]:
    """All of them."""
    yield from check_reserved(facts, device)
    yield from _functions(facts, device)
    yield from _framebuffer(facts, device, request)


def check_mappings(facts: GpuFacts, tee: Tee | None, memory: int, backend: str) -> Iterator[Finding]:
    """Whether legacy VFIO allows the mappings of a confidential guest, whose memory it maps page by page as the guest
    shares it: VFIO_MAP_DMA says "No space left on device" else, when the guest starts or much later.

    Args:
        memory: bytes of the guest.
        backend: "group" for legacy VFIO, or "iommufd", which knows no such limit.
    """
    allowed = DMA_ENTRIES if facts.vfio.dma_entries is None else facts.vfio.dma_entries
    needed = dma_entries_for(memory)
    if tee and tee.libvirt.private_memory and backend == "group" and allowed < needed:
        yield host_lacks("gpu.dma-entries", f"legacy VFIO allows a machine {allowed} mappings (dma_entry_limit), and a "
                         f"guest in {tee.name} with {memory >> 20} MiB may need {needed}: it maps 4 KiB at a time",
                         set_dma_entries(needed, facts.vfio.dma_entries))


def check_reserved(facts: GpuFacts, device: PciDevice) -> Iterator[Finding]:
    """The kernel refuses such a group to every machine (device_is_rmrr_locked in drivers/iommu/intel/iommu.c, and
    require_direct in drivers/iommu/iommu.c since 6.6)."""
    ranges = facts.reserved.get(device.group, ()) if device.group is not None else ()
    if ranges:
        yield host_lacks("gpu.reserved-regions", f"{device.bdf}: the firmware reserves memory for IOMMU group "
                         f"{device.group} ({', '.join(ranges)}, RMRR on Intel), so the kernel gives it to no machine",
                         FIRMWARE)


def _functions(facts: GpuFacts, device: PciDevice) -> Iterator[Finding]:
    inventory, details = facts.inventory, facts.inventory.details.get(device.bdf)
    physical = inventory.physical_function(device)
    if physical and is_vfio(physical.driver):
        yield host_lacks("gpu.vf-token", f"{device.bdf} is a virtual function of {physical.bdf}, which is on "
                         f"{physical.driver} itself: the kernel gives it only to a machine that knows its token",
                         f"vmtool gpu release {physical.bdf}")
    if inventory.is_divided(device):
        count = details.vfs if details and details.vfs else len(inventory.virtual_functions(device))
        yield host_lacks("gpu.virtual-functions", f"{device.bdf} has {count} virtual functions, which would go "
                         "with it", _instead(facts, inventory, device))


def _instead(facts: GpuFacts, inventory: Inventory, device: PciDevice) -> str:
    """What to bind in the place of a physical function."""
    free = [other for other in inventory.virtual_functions(device)
            if is_free(facts, other) and not is_vfio(other.driver)]
    return f"vmtool gpu bind {free[0].bdf}" if free else "vmtool gpu list"


def _framebuffer(facts: GpuFacts, device: PciDevice, request: DeviceRequest) -> Iterator[Finding]:
    found = [each for each in facts.framebuffers if each.bdf == device.bdf]
    if found and not request.boot_vga:
        yield wrong_input("gpu.framebuffer", f"{device.bdf}: the firmware's framebuffer lies in its memory "
                          f"({found[0].label}), so no machine could have that",
                          "--boot-vga takes it, and the text console with it")
    elif found and request.persist:
        yield wrong_input("gpu.framebuffer.persist", f"{device.bdf}: the firmware's framebuffer ({found[0].label}) "
                          "will be in its memory at the next boot again, before the unit could take it",
                          "boot with the kernel parameter initcall_blacklist=sysfb_init, or leave --persist out")
