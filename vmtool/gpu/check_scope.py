"""Which devices a bind takes together: what shares an IOMMU group, and the functions of a card that are its own."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.gpu.device_types import AMD, BRIDGES, COMPANIONS, is_accelerator
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.select import NOT_ACCELERATOR, DeviceRequest, check_address
from vmtool.gpu.vfio_driver import leaves_viable


def scope_of(inventory: Inventory, targets: Iterable[PciDevice], request: DeviceRequest
             ) -> tuple[tuple[PciDevice, ...], list[Finding]]:
    """The targets with what must go along, and what keeps the rest from being possible."""
    scope = {device.bdf: device for device in targets}
    named = frozenset(bdf.lower() for bdf in request.others)
    findings = [item for bdf in request.others for item in check_address(inventory, bdf) if item.id != NOT_ACCELERATOR]
    foreign: dict[str, Finding] = {}
    waiting = list(scope.values())
    while waiting:
        device = waiting.pop()
        for other in _neighbours(inventory, device, named):
            if other.bdf in scope:
                continue
            if other.bdf in named or _is_own(inventory, device, other) or _takes_group(inventory, request, other):
                scope[other.bdf] = other
                waiting.append(other)
            elif not leaves_viable(other.driver):
                foreign.setdefault(other.bdf, _foreign(inventory, device, other))
    findings += [item for bdf, item in foreign.items() if bdf not in scope]
    if not findings:
        findings += [wrong_input("gpu.with", f"--with {bdf}: it shares neither card nor IOMMU group with what is bound",
                                 "leave it out: --with is for a device that has to go along")
                     for bdf in sorted(named - scope.keys())]
    return tuple(scope[bdf] for bdf in sorted(scope)), findings


def are_one_card(inventory: Inventory, device: PciDevice, other: PciDevice) -> bool:
    """Whether they are functions of one slot; a virtual function has an address of such a form, and is on its own."""
    return device.card == other.card and not (inventory.is_virtual(device) or inventory.is_virtual(other))


def is_discrete(inventory: Inventory, device: PciDevice) -> bool:
    """Whether a GPU is a card of its own, and no part of a processor or chipset, whose slot it then shares with the
    host's own functions.

    Integrated are those on bus 0, AMD's APUs by their ids (pci.ids: 13xx to 19xx and, before, 96xx to 99xx), and those
    in a slot with another vendor's functions: an APU's USB and audio are 1022, its GPU is 1002.
    """
    if device.bdf.split(":")[1] == "00":
        return False
    if device.vendor == AMD and (device.device < 0x2000 or 0x9600 <= device.device < 0x9A00):
        return False
    return all(other.vendor == device.vendor for other in inventory.devices if are_one_card(inventory, device, other))


def _neighbours(inventory: Inventory, device: PciDevice, named: Container[str]) -> Iterator[PciDevice]:
    """What shares the group, bridges excepted; and of other groups what is named, or a discrete card's own."""
    discrete = is_discrete(inventory, device)
    for other in inventory.devices:
        if other.bdf == device.bdf or other.base_class in BRIDGES:
            continue
        grouped = other.group is not None and other.group == device.group
        if grouped or (are_one_card(inventory, device, other)
                       and (other.bdf in named or (discrete and _is_own(inventory, device, other)))):
            yield other


def _is_own(inventory: Inventory, device: PciDevice, other: PciDevice) -> bool:
    """Whether it is the same card's audio, USB-C or second GPU."""
    return (are_one_card(inventory, device, other) and other.vendor == device.vendor
            and (other.base_class in COMPANIONS or is_accelerator(other)))


def _takes_group(inventory: Inventory, request: DeviceRequest, other: PciDevice) -> bool:
    """Whether --group takes it along; never what others use through its virtual functions."""
    return request.group and is_accelerator(other) and not inventory.is_divided(other)


def _foreign(inventory: Inventory, device: PciDevice, other: PciDevice) -> Finding:
    text = (f"{device.bdf} shares IOMMU group {device.group} with {other.bdf} (class {other.base_class:04x}, "
            f"{other.driver})")
    if inventory.is_divided(other):
        return host_lacks("gpu.group", f"{text}, the physical function, which stays with the host",
                          "turn on ACS and ARI in the firmware, or move the card to another slot: a virtual function "
                          "goes to a machine only out of a group of its own")
    if is_accelerator(other):
        return wrong_input("gpu.group", text, "--group takes the accelerators of a group together")
    return wrong_input("gpu.group", text, f"give it away too with --with {other.bdf}, or move the card to another "
                       "slot; pcie_acs_override would only hide that they are not isolated")
