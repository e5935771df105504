"""Whether devices may be given to VFIO: every reason against it at once, before the first change."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, host_lacks, refuse, wrong_input
from vmtool.gpu.check_machine import check_machine, check_reserved
from vmtool.gpu.check_scope import scope_of
from vmtool.gpu.device_users import Holder
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.select import DeviceRequest, select
from vmtool.gpu.services import KNOWN
from vmtool.gpu.vfio_driver import choose_driver

REBOOT = "reboot the machine; nothing else is known to free it"


def check_bind(facts: GpuFacts, request: DeviceRequest) -> tuple[PciDevice, ...]:
    """Every device that has to go to VFIO for this request, those included that are there already.

    Raises:
        Refused: the request is wrong; NotReady: this host or moment is. Each lists every problem.
    """
    scope, findings = choose(facts, request)
    refuse(findings, "nothing was bound")
    return scope


def choose(facts: GpuFacts, request: DeviceRequest) -> tuple[tuple[PciDevice, ...], list[Finding]]:
    """Every device that has to go to VFIO for this request, and the reasons against it."""
    targets, findings = select(facts, request)
    scope, more = scope_of(facts.inventory, targets, request)
    findings += more
    findings += check_host(facts)
    for device in scope:
        findings += check_device(facts, device, request)
    return scope, findings


def check_host(facts: GpuFacts) -> Iterator[Finding]:
    """What this host lacks for any device."""
    if not facts.is_root:
        yield host_lacks("gpu.root", "binding needs root", "sudo vmtool gpu bind ...")
    if not facts.vfio.groups:
        yield host_lacks("gpu.iommu", "the IOMMU is off: there are no IOMMU groups", facts.enable)
    if facts.vfio.remapped is False:
        yield host_lacks("gpu.interrupts",
                         "the IOMMU does not remap interrupts, so VFIO will refuse every device to a machine (EPERM)",
                         "turn on interrupt remapping (x2APIC) in the firmware and boot without intremap=off")
    if not facts.vfio.available:
        yield host_lacks("gpu.vfio-pci", f"the kernel {facts.vfio.release} has no vfio-pci module",
                         "install the kernel's modules package, or build it with CONFIG_VFIO_PCI")


def check_device(facts: GpuFacts, device: PciDevice, request: DeviceRequest) -> Iterator[Finding]:
    """Reasons to refuse this one device."""
    inventory, details = facts.inventory, facts.inventory.details.get(device.bdf)
    for anchor in facts.host_critical:
        if anchor.bdf == device.bdf:
            yield wrong_input("gpu.host-critical", f"{device.bdf} must stay with the host: {anchor.why}")
    yield from stuck(inventory, device)
    owner = inventory.claims.get(device.bdf, request.owner)
    if owner != request.owner:
        yield host_lacks("gpu.claimed", f"{device.bdf} serves {owner}", f"vmtool rm {owner.rpartition(' ')[2]}")
    if device.driver == choose_driver(facts.vfio, device).driver:
        # Whoever bound it did not ask whether a machine gets it.
        yield from check_reserved(facts, device)
        if request.owner:
            yield from (held(device, holder) for holder in facts.holders_of(device))
        return
    if device.group is None and facts.vfio.groups and device.driver:
        yield host_lacks("gpu.no-group", f"{device.bdf} has no IOMMU group",
                         "its root port is not behind the IOMMU: see the firmware's settings")
    if details and details.boot_vga and not request.boot_vga:
        yield wrong_input("gpu.boot-vga", f"{device.bdf} is the display that the machine boots on",
                          "--boot-vga takes it, and the text console with it")
    yield from check_machine(facts, device, request)
    yield from _check_use(facts, device, request)


def _check_use(facts: GpuFacts, device: PciDevice, request: DeviceRequest) -> Iterator[Finding]:
    for holder in facts.holders_of(device):
        if not (request.stop_services and holder.unit in KNOWN):
            yield held(device, holder)
    if device.bdf in facts.persistent and not request.stop_services:
        yield host_lacks("gpu.persistence", f"{device.bdf} is kept in use by NVIDIA's persistence mode",
                         f"nvidia-smi -i {device.bdf} -pm 0, or --stop-services")
    if any(console.bdf == device.bdf for console in facts.consoles) and not request.boot_vga:
        yield wrong_input("gpu.console", f"{device.bdf} draws the text console", "--boot-vga takes it")


def stuck(inventory: Inventory, device: PciDevice) -> Iterator[Finding]:
    """Whether the kernel still holds the device's lock, or was seen never to let it go."""
    details = inventory.details.get(device.bdf)
    if device.bdf in inventory.hung:
        yield host_lacks("gpu.hung", f"{device.bdf} hung in the kernel since this boot", REBOOT)
    elif details and details.busy:
        yield host_lacks("gpu.busy", f"{device.bdf} is being bound or unbound by someone else, or hangs in that",
                         "wait a moment and try again; if it stays so: " + REBOOT)


def held(device: PciDevice, holder: Holder) -> Finding:
    """A process that uses the device, by name."""
    nodes = ", ".join(holder.nodes[:3])
    hint = f"end it, or wait for it: kill {holder.pid}"
    if holder.unit in KNOWN:
        hint = f"systemctl stop {holder.unit}, or --stop-services"
    elif holder.unit:
        hint = f"systemctl stop {holder.unit}"
    return host_lacks("gpu.in-use", f"{device.bdf} is used by {holder.command} (pid {holder.pid}), which has {nodes} "
                      "open", hint)
