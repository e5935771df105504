"""Whether a virtual machine could start with devices that VFIO has: asked of the kernel, as a machine would ask."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from vmtool.claims import Claim
from vmtool.gpu.device_types import BRIDGES
from vmtool.gpu.framebuffers import inside_bars
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.iommu import GROUPS
from vmtool.gpu.pci import DEVICES, PciDevice
from vmtool.gpu.vfio_driver import is_vfio, leaves_viable
from vmtool.gpu.vfio_in_use import nodes_of
from vmtool.machine import DeviceReader, Reader

# The claim on each device that VFIO has.
VIABLE = "gpu.viable"
# Seconds; a busy kernel may not answer at all.
ANSWERS_WITHIN = 5.0
IN_USE = "a machine has it open"
# What the kernel's refusal means, by the step at which a machine would meet it, see `DeviceReader.open_vfio`.
REFUSED = {
    "container": "legacy VFIO has no container for its IOMMU group",
    "domain": "the kernel gives its IOMMU group no domain: a memory region that the firmware reserves, or no interrupt "
              "remapping",
    "bind": "iommufd does not take it",
}


def verify_vfio(reader: DeviceReader, directories: Sequence[str]) -> dict[str, Claim]:
    """A claim for each device, by its directory; one that a machine has open already is "not-checked"."""
    nodes = {directory: _node(reader, directory) for directory in directories}
    asked = tuple(dict.fromkeys(node for node in nodes.values() if node))
    answers = reader.open_vfio(asked, ANSWERS_WITHIN) if asked else {}
    inside = inside_bars(reader.text("/proc/iomem") or "")
    return {directory: _claim(reader, directory, node, answers, inside) for directory, node in nodes.items()}


def known_claim(inventory: Inventory, device: PciDevice) -> Claim | None:
    """The claim without asking the kernel: as proven when the device was bound, and as the drivers of its group are
    now; None when VFIO does not have it."""
    if not is_vfio(device.driver):
        return None
    strangers = [f"{other.bdf} has the driver {other.driver}" for other in inventory.members(device)
                 if not leaves_viable(other.driver) and other.base_class not in BRIDGES]
    if strangers:
        return Claim(VIABLE, "failed", f"its IOMMU group {device.group} is not viable: {', '.join(strangers)}")
    found = inventory.proofs.get(device.bdf, "")
    return Claim(VIABLE, "proven" if found else "not-checked",
                 found or f"not proven since the last boot: vmtool gpu status {device.bdf}")


def _node(reader: Reader, directory: str) -> str:
    """The node that a machine opens: the group's where there is one, since asking it resets no device."""
    return next((node for node in nodes_of(reader, directory) if reader.exists(node)), "")


def _claim(reader: Reader, directory: str, node: str, answers: Mapping[str, str],
           inside: Mapping[str, tuple[str, ...]]) -> Claim:
    answer = answers.get(node)
    if not node:
        return Claim(VIABLE, "failed", "VFIO has no node for it that a machine could open")
    if answer is None:
        return Claim(VIABLE, "not-checked", f"{node} did not answer within {ANSWERS_WITHIN:g} s")
    if answer == "open EBUSY":
        return Claim(VIABLE, "not-checked", f"{IN_USE} ({node})")
    if answer.startswith("open "):
        return Claim(VIABLE, "not-checked", f"{node} cannot be opened ({answer.partition(' ')[2]})")
    problems = [_meaning(reader, directory, answer)] if answer else []
    # Its own driver takes the BARs only for a machine.
    if left := [name for name in inside.get(os.path.basename(directory), ()) if "vfio" not in name]:
        problems.append(f"{', '.join(left)} lies in its memory, so no machine can have that BAR (/proc/iomem)")
    if problems:
        return Claim(VIABLE, "failed", "; ".join(problems))
    return Claim(VIABLE, "proven", f"the kernel gives it to a machine: asked at {node}, and its BARs are free")


def _meaning(reader: Reader, directory: str, answer: str) -> str:
    if answer != "viable":
        step, _, name = answer.partition(" ")
        return f"{REFUSED.get(step, 'the kernel refuses it')} ({name})"
    group = os.path.basename(reader.link(f"{directory}/iommu_group") or "")
    others = ", ".join(_strangers(reader, group)) or "another device of it has a driver of the host"
    return f"its IOMMU group {group} is not viable: {others}"


def _strangers(reader: Reader, group: str) -> Iterator[str]:
    """The devices of a group whose drivers keep it from a machine."""
    for bdf in reader.names(f"{GROUPS}/{group}/devices"):
        driver = os.path.basename(reader.link(f"{DEVICES}/{bdf}/driver") or "")
        if not leaves_viable(driver):
            yield f"{bdf} has the driver {driver}"
