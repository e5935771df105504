"""The accelerators as they will be when what an earlier launch left is cleared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.pci import PciDetails, PciDevice
from vmtool.gpu.saved_state import GpuSavedState


def facts_without(facts: GpuFacts, owner: str) -> GpuFacts:
    """The facts after an owner such as "instance chat" gave back what it had.

    A device that was bound before the owner came is not in the owner's name, and stays bound. Where an older vmtool did
    not note in whose name, the device counts as the owner's: then it is bound again, whatever clearing makes of it.
    """
    inventory = facts.inventory
    back = {bdf: record for bdf, record in inventory.records.items()
            if (inventory.claims.get(bdf) if record.owner is None else record.owner) == owner}
    cleared = {bdf for bdf, claimant in inventory.claims.items() if claimant == owner}
    return replace(
        facts,
        inventory=replace(
            inventory,
            devices=tuple(_device_back(device, back) for device in inventory.devices),
            details={bdf: _details_back(details, back.get(bdf)) for bdf, details in inventory.details.items()},
            records={bdf: record for bdf, record in inventory.records.items() if bdf not in back},
            claims={bdf: claimant for bdf, claimant in inventory.claims.items() if bdf not in cleared}),
        # Nobody but its guest can have it open; that one is ended, and waited for, before anything is released.
        nodes={bdf: frozenset() if bdf in cleared else nodes for bdf, nodes in facts.nodes.items()})


def _device_back(device: PciDevice, back: Mapping[str, GpuSavedState]) -> PciDevice:
    record = back.get(device.bdf)
    return replace(device, driver=record.driver) if record else device


def _details_back(details: PciDetails, record: GpuSavedState | None) -> PciDetails:
    if record is None:
        return details
    return replace(details, override=record.override, module=record.module, vfio_node=None,
                   power_control=record.power_control or details.power_control, d3cold_allowed=record.d3cold_allowed)
