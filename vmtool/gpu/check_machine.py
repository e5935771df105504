"""Reasons why no virtual machine could start with a device although it binds: known before it leaves its driver."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.select import DeviceRequest, is_free
from vmtool.gpu.vfio_driver import is_vfio

FIRMWARE = ("in the firmware exclude the card's slot from it: HPE's Shared Memory Features (conrep: RMRDS_SlotN = "
            "Endpoints_Excluded), elsewhere what lets the management controller read the card (out-of-band management "
            "of PCI devices, legacy USB support); or use another slot")


def check_machine(facts: GpuFacts, device: PciDevice, request: DeviceRequest) -> Iterator[Finding]:
    """All of them."""
    yield from _reserved(facts, device)
    yield from _functions(facts, device)
    yield from _framebuffer(facts, device, request)


def _reserved(facts: GpuFacts, device: PciDevice) -> Iterator[Finding]:
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
