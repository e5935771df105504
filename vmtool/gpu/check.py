"""Whether devices may be given to VFIO: every reason against it at once, before the first change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmtool.errors import NotReady, Refused
from vmtool.gpu.device_types import BRIDGES, is_accelerator, is_companion
from vmtool.gpu.device_users import Holder
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.select import Problem, Wish, address_problems, select
from vmtool.gpu.services import KNOWN
from vmtool.gpu.vfio_driver import choose_driver, is_vfio

REBOOT = "reboot the machine; nothing else is known to free it"


def check_bind(facts: GpuFacts, wish: Wish) -> tuple[PciDevice, ...]:
    """Every device that has to go to VFIO for this wish, those included that are there already.

    Raises:
        Refused: the wish is wrong; NotReady: this host or moment is. Each lists every problem.
    """
    targets, problems = select(facts, wish)
    scope, more = scope_of(facts.inventory, targets, wish)
    problems += more
    problems += host_problems(facts)
    for device in scope:
        problems += device_problems(facts, device, wish)
    refuse(problems, "nothing was bound")
    return scope


def refuse(problems: Iterable[Problem], what: str) -> None:
    """Raise the problems, if there are any: one by itself, several as a list."""
    problems = list(dict.fromkeys(problems))
    if not problems:
        return
    kind = Refused if any(problem.kind is Refused for problem in problems) else NotReady
    if len(problems) == 1:
        raise kind(f"{what}: {problems[0].text}", hint=problems[0].hint)
    raise kind(f"{what}: {len(problems)} problems",
               details=[problem.text + (f" ({problem.hint})" if problem.hint else "") for problem in problems])


def scope_of(inventory: Inventory, targets: Iterable[PciDevice], wish: Wish) -> tuple[tuple[PciDevice, ...],
                                                                                      list[Problem]]:
    """The targets with the other functions of their cards and their groups' members."""
    scope = {device.bdf: device for device in targets}
    problems = [problem for bdf in wish.others for problem in address_problems(inventory, bdf)
                if "is no accelerator" not in problem.text]
    foreign: dict[str, Problem] = {}
    waiting = list(scope.values())
    while waiting:
        device = waiting.pop()
        for other in _neighbours(inventory, device):
            if other.bdf in scope:
                continue
            if is_companion(other, device) or other.bdf in wish.others or (wish.group and is_accelerator(other)):
                scope[other.bdf] = other
                waiting.append(other)
            elif other.driver and not is_vfio(other.driver):
                foreign.setdefault(other.bdf, _foreign(device, other))
    problems += [problem for bdf, problem in foreign.items() if bdf not in scope]
    return tuple(scope[bdf] for bdf in sorted(scope)), problems


def _neighbours(inventory: Inventory, device: PciDevice) -> Iterator[PciDevice]:
    """What shares the card or the group. Exempt are bridges, and virtual functions, which have an address of a
    sibling's form; a function outside of the group that no such card has may stay with the host."""
    for other in inventory.devices:
        if other.bdf == device.bdf or other.base_class in BRIDGES:
            continue
        details = inventory.details.get(other.bdf)
        grouped = other.group is not None and other.group == device.group
        if grouped or (is_companion(other, device) and not (details and details.physfn)):
            yield other


def _foreign(device: PciDevice, other: PciDevice) -> Problem:
    text = (f"{device.bdf} shares IOMMU group {device.group} with {other.bdf} (class {other.base_class:04x}, "
            f"{other.driver})")
    if is_accelerator(other):
        return Problem(text, "--group takes the accelerators of a group together")
    return Problem(text, f"give it away too with --with {other.bdf}, or move the card to another slot; "
                         "pcie_acs_override would only hide that they are not isolated")


def host_problems(facts: GpuFacts) -> Iterator[Problem]:
    """What this host lacks for any device."""
    if not facts.is_root:
        yield Problem("binding needs root", "sudo vmtool gpu bind ...", NotReady)
    if not facts.vfio.groups:
        yield Problem("the IOMMU is off: there are no IOMMU groups", facts.enable, NotReady)
    if facts.vfio.remapped is False:
        yield Problem("the IOMMU does not remap interrupts, so VFIO will refuse every device to a machine (EPERM)",
                      "turn on interrupt remapping (x2APIC) in the firmware and boot without intremap=off", NotReady)
    if not facts.vfio.available:
        yield Problem(f"the kernel {facts.vfio.release} has no vfio-pci module",
                      "install the kernel's modules package, or build it with CONFIG_VFIO_PCI", NotReady)


def device_problems(facts: GpuFacts, device: PciDevice, wish: Wish) -> Iterator[Problem]:
    """What speaks against this one device."""
    inventory, details = facts.inventory, facts.inventory.details.get(device.bdf)
    for anchor in facts.anchors:
        if anchor.bdf == device.bdf:
            yield Problem(f"{device.bdf} must stay with the host: {anchor.why}")
    yield from stuck(inventory, device)
    owner = inventory.claims.get(device.bdf, wish.owner)
    if owner != wish.owner:
        yield Problem(f"{device.bdf} serves {owner}", f"vmtool rm {owner.rpartition(' ')[2]}", NotReady)
    if device.driver == choose_driver(facts.vfio, device).driver:
        if wish.owner:
            yield from (held(device, holder) for holder in facts.holders_of(device))
        return
    if device.group is None and facts.vfio.groups and device.driver:
        yield Problem(f"{device.bdf} has no IOMMU group", "its root port is not behind the IOMMU: see the firmware's "
                      "settings", NotReady)
    if details and details.boot_vga and not wish.boot_vga:
        yield Problem(f"{device.bdf} is the display that the machine boots on", "--boot-vga takes it, and the text "
                      "console with it", Refused)
    if details and details.vfs:
        yield Problem(f"{device.bdf} has {details.vfs} virtual functions",
                      f"echo 0 > /sys/bus/pci/devices/{device.bdf}/sriov_numvfs", NotReady)
    yield from _use_problems(facts, device, wish)


def _use_problems(facts: GpuFacts, device: PciDevice, wish: Wish) -> Iterator[Problem]:
    for holder in facts.holders_of(device):
        if not (wish.stop_services and holder.unit in KNOWN):
            yield held(device, holder)
    if device.bdf in facts.persistent and not wish.stop_services:
        yield Problem(f"{device.bdf} is kept in use by NVIDIA's persistence mode",
                      f"nvidia-smi -i {device.bdf} -pm 0, or --stop-services", NotReady)
    if any(console.bdf == device.bdf for console in facts.consoles) and not wish.boot_vga:
        yield Problem(f"{device.bdf} draws the text console", "--boot-vga takes it", Refused)


def stuck(inventory: Inventory, device: PciDevice) -> Iterator[Problem]:
    """Whether the kernel still holds the device's lock, or was seen never to let it go."""
    details = inventory.details.get(device.bdf)
    if device.bdf in inventory.hung:
        yield Problem(f"{device.bdf} hung in the kernel since this boot", REBOOT, NotReady)
    elif details and details.busy:
        yield Problem(f"{device.bdf} is being bound or unbound by someone else, or hangs in that",
                      "wait a moment and try again; if it stays so: " + REBOOT, NotReady)


def held(device: PciDevice, holder: Holder) -> Problem:
    """A process that uses the device, by name."""
    nodes = ", ".join(holder.nodes[:3])
    hint = f"end it, or wait for it: kill {holder.pid}"
    if holder.unit in KNOWN:
        hint = f"systemctl stop {holder.unit}, or --stop-services"
    elif holder.unit:
        hint = f"systemctl stop {holder.unit}"
    return Problem(f"{device.bdf} is used by {holder.command} (pid {holder.pid}), which has {nodes} open", hint,
                   NotReady)
