"""Giving devices back to the drivers they came from, also long after the bind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vmtool.findings import Finding, host_lacks, refuse
from vmtool.gpu.check import held, stuck
from vmtool.gpu.check_scope import are_one_card
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.plan_persist import plan_forget
from vmtool.gpu.restore import undo_moves
from vmtool.gpu.saved_state import GpuSavedState, proofs, records
from vmtool.gpu.select import check_address
from vmtool.gpu.vfio_driver import is_vfio
from vmtool.paths import State
from vmtool.plan import Plan, Remove, Run, Step


def directory(state: State) -> Path:
    """Where the journal of a release lies; one at a time."""
    return state.root / "gpu" / "release"


def plan_release(state: State, facts: GpuFacts, bdfs: Sequence[str], persisted: frozenset[str],
                 deadline: float = 20.0) -> Plan:
    """The plan of `vmtool gpu release`; without addresses, of everything that vmtool bound.

    It has no undo: what is released stays so, and what could not be is still on record for another try.

    Raises:
        Refused, NotReady: with every problem.
    """
    inventory = facts.inventory
    chosen = _chosen(facts, [bdf.lower() for bdf in bdfs]) if bdfs else list(inventory.records.values())
    findings = [item for bdf in bdfs for item in check_address(inventory, bdf)
                if bdf.lower() not in inventory.records]
    for bdf in bdfs:
        device = inventory.find(bdf.lower())
        if device and bdf.lower() not in inventory.records and is_vfio(device.driver):
            findings.append(host_lacks("gpu.not-bound-by-vmtool", f"{bdf} was not given to {device.driver} by vmtool, "
                                       "so where it came from is not known",
                                       f"driverctl unset-override {bdf}, or what has bound it"))
    for record in chosen:
        findings += _check(facts, record)
    refuse(findings, "nothing was released")
    return Plan("gpu release", directory(state), tuple(_steps(state, facts, chosen, persisted, deadline))
                or (Step("give back", skip="vmtool holds no device" if not bdfs else "not bound by vmtool"),))


def _chosen(facts: GpuFacts, bdfs: Iterable[str]) -> list[GpuSavedState]:
    """The records of these devices, and of those that went along: same card or same group."""
    devices = [device for bdf in bdfs if (device := facts.inventory.find(bdf))]
    names = {*bdfs, *(other.bdf for device in devices for other in facts.inventory.devices
                      if _together(facts.inventory, device, other))}
    return [record for bdf, record in sorted(facts.inventory.records.items()) if bdf in names]


def _together(inventory: Inventory, device: PciDevice, other: PciDevice) -> bool:
    return are_one_card(inventory, device, other) or (other.group is not None and other.group == device.group)


def _check(facts: GpuFacts, record: GpuSavedState) -> Iterable[Finding]:
    device = facts.inventory.find(record.bdf)
    owner = facts.inventory.claims.get(record.bdf)
    if owner:
        yield host_lacks("gpu.claimed", f"{record.bdf} serves {owner}",
                         f"vmtool rm {owner.rpartition(' ')[2]} gives it back")
    if not facts.is_root:
        yield host_lacks("gpu.root", "giving back needs root", "sudo vmtool gpu release ...")
    if device:
        yield from stuck(facts.inventory, device)
    if device and device.driver == record.bound_to:
        # Unbinding vfio-pci from a device that a machine has open waits for that machine, for good.
        yield from (held(device, holder) for holder in facts.holders_of(device))


def _steps(state: State, facts: GpuFacts, chosen: Sequence[GpuSavedState], persisted: frozenset[str],
           deadline: float) -> Iterable[Step]:
    ours = [record for record in chosen if _is_ours(facts, record)]
    missing = sorted({record.module for record in ours if record.module and record.driver not in facts.vfio.drivers})
    if missing:
        yield Step(f"load {', '.join(missing)}", tuple(Run(("modprobe", module), deadline=120) for module in missing))
    if ours:
        origins = ", ".join(f"{record.bdf} to {record.driver or 'no driver'}" for record in ours)
        yield Step(f"give back {origins}", undo_moves(state, ours, deadline),
                   subjects=tuple(record.bdf for record in ours))
    for record in chosen:
        if record not in ours:
            yield Step(f"give back {record.bdf}", skip=_drift(facts, record), subjects=(record.bdf,))
    again = [bdf for record in chosen if (bdf := record.bdf) in persisted]
    if again:
        yield plan_forget(again, last=persisted <= set(again))
    if chosen:
        # The records last: as long as one is there, a release that ended half-way is found by the next one.
        paths: list[Path] = [directory / record.bdf for directory in (proofs(state), records(state))
                             for record in chosen]
        yield Step("forget where they came from", tuple(Remove(path) for path in paths))


def _is_ours(facts: GpuFacts, record: GpuSavedState) -> bool:
    """Whether the device is still where vmtool put it, or at least nowhere else; or back, but not to its settings."""
    device = facts.inventory.find(record.bdf)
    return device is not None and (device.driver in (record.bound_to, "")
                                   or (device.driver == record.driver and _has_our_settings(facts, record)))


def _has_our_settings(facts: GpuFacts, record: GpuSavedState) -> bool:
    """Whether something still is as a bind writes it: a release that ended half-way had not come to it."""
    details = facts.inventory.details.get(record.bdf)
    if details is None:
        return False
    return ((details.override == record.bound_to and record.override != record.bound_to)
            or (details.d3cold_allowed == "0" and record.d3cold_allowed == "1")
            or (details.power_control == "on" and record.power_control == "auto"))


def _drift(facts: GpuFacts, record: GpuSavedState) -> str:
    device = facts.inventory.find(record.bdf)
    if device is None:
        return "it is not there any more"
    return "it is back already" if device.driver == record.driver else f"someone else bound it to {device.driver}"
