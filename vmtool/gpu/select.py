"""From what the user wants to addresses: by BDF, all, by type, by count and memory; near to each other first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.frozen import dataclass
from vmtool.gpu.device_types import is_accelerator, kind_of, type_of
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import BDF, PciDevice
from vmtool.gpu.vfio_driver import is_vfio

LIST = "vmtool gpu list shows what there is"
# The id of the finding on a device that may be taken along, and not asked for by itself.
NOT_ACCELERATOR = "gpu.not-accelerator"


@dataclass(frozen=True)
class DeviceRequest:
    """What to bind, and what is allowed for it.

    Args:
        bdfs: addresses; or, without any, `everything`, `type` and `count` choose.
        count: how many; 0 for all of the type.
        memory: bytes that each must have at least; 0 for any.
        group: take the other accelerators of an IOMMU group along.
        others: foreign group members or functions that may be taken along.
        boot_vga: the console's display may be taken.
        stop_services: the known services that hold a device may be stopped for that time.
        owner: the instance that they are for, such as "instance chat".
        deadline: seconds that the kernel has for each step.
    """

    bdfs: tuple[str, ...] = ()
    everything: bool = False
    type: str = ""
    count: int = 0
    memory: int = 0
    group: bool = False
    others: tuple[str, ...] = ()
    boot_vga: bool = False
    stop_services: bool = False
    persist: bool = False
    owner: str = ""
    deadline: float = 20.0


def select(facts: GpuFacts, request: DeviceRequest) -> tuple[tuple[PciDevice, ...], list[Finding]]:
    """The accelerators that are wanted, and what is wrong with the request."""
    inventory = facts.inventory
    if request.bdfs:
        findings = [item for bdf in request.bdfs for item in check_address(inventory, bdf)]
        found = {bdf.lower(): inventory.find(bdf.lower()) for bdf in request.bdfs}
        return tuple(device for device in found.values() if device and is_accelerator(device)), findings
    if not (request.everything or request.type or request.count):
        return (), [wrong_input("gpu.nothing-chosen", "nothing is chosen",
                                "give addresses, --all, --type or --count; " + LIST)]
    fitting = [device for device in inventory.accelerators if _fits(inventory, device, request)]
    if not fitting:
        return (), [_none_fits(inventory, request)]
    if not request.count:
        return tuple(fitting), []
    free = [device for device in fitting if is_free(facts, device, request.owner)]
    if len(free) < request.count:
        used = f", {len(fitting) - len(free)} more are in use" if len(free) < len(fitting) else ""
        return (), [host_lacks("gpu.too-few", f"{request.count} wanted, but {len(free)} are free{used}", LIST)]
    return tuple(nearest(inventory, free, request.count)), []


def check_address(inventory: Inventory, bdf: str) -> Iterator[Finding]:
    """What is wrong with an address that was typed."""
    if not BDF.fullmatch(bdf.lower()):
        short = BDF.fullmatch(f"0000:{bdf.lower()}")
        yield wrong_input("gpu.address", f"{bdf!r} is no PCI address", f"write it in full: {short[0]}" if short else
                          "an address is DOMAIN:BUS:DEVICE.FUNCTION, such as 0000:17:00.0; " + LIST)
        return
    device = inventory.find(bdf.lower())
    if device is None:
        yield wrong_input("gpu.absent", f"{bdf}: there is no such device", LIST)
    elif kind_of(device) == "bridge":
        yield wrong_input("gpu.bridge", f"{bdf} is a bridge (class {device.base_class:04x}), which stays with the host",
                          LIST)
    elif not is_accelerator(device):
        yield wrong_input(NOT_ACCELERATOR, f"{bdf} is no accelerator (class {device.base_class:04x}, "
                          f"{device.vendor:04x}:{device.device:04x})",
                          f"name the GPU, and this one with --with {bdf} if it has to go along")


def is_free(facts: GpuFacts, device: PciDevice, owner: str = "") -> bool:
    """Whether it can be given to `owner`: it serves nobody else, no machine runs with it, and it did not hang."""
    if device.bdf in facts.inventory.hung or facts.inventory.claims.get(device.bdf, owner) != owner:
        return False
    return not (is_vfio(device.driver) and facts.holders_of(device))


def nearest(inventory: Inventory, free: Sequence[PciDevice], count: int) -> list[PciDevice]:
    """As few NUMA nodes as possible: the smallest one that has enough, else the largest ones first.

    Within a node, those on VFIO already come first, since they cost nothing; then virtual functions, which were made
    for guests.
    """
    nodes: dict[int | None, list[PciDevice]] = {}
    for device in sorted(free, key=lambda device: (not is_vfio(device.driver), not inventory.is_virtual(device),
                                                   device.bdf)):
        nodes.setdefault(inventory.details[device.bdf].numa_node, []).append(device)
    enough = sorted((devices for devices in nodes.values() if len(devices) >= count), key=len)
    if enough:
        return enough[0][:count]
    spread = [device for devices in sorted(nodes.values(), key=len, reverse=True) for device in devices]
    return spread[:count]


def _fits(inventory: Inventory, device: PciDevice, request: DeviceRequest) -> bool:
    if inventory.is_divided(device):
        return False  # its virtual functions are chosen in its place
    if not request.type and kind_of(device) == "nvswitch":
        # A switch is not counted among GPUs; --all takes it along.
        return request.everything
    if request.type and type_of(device) != request.type:
        return False
    return not request.memory or (inventory.memory(device) or 0) >= request.memory


def _none_fits(inventory: Inventory, request: DeviceRequest) -> Finding:
    types = sorted({type_of(device) for device in inventory.accelerators})
    wanted = request.type or "accelerator"
    wanted += f" with {request.memory >> 30} GiB" if request.memory else ""
    return host_lacks("gpu.none-fits", f"there is no {wanted}", f"there are: {', '.join(types)}" if types else
                      "this host has no accelerator that vmtool knows; see lspci -nn")
