"""Giving devices to VFIO: the plan of it. The order is the kernel's: override all, unbind all, probe all, verify.

Never new_id, which is for all devices of a model at once and for the future; Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.gpu.actions import AwaitVfioNodes, AwaitVfioUnused, ExpectDriver, ProveVfio, WriteSysfs
from vmtool.gpu.check import check_bind
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.pci import DEVICES, PciDevice
from vmtool.gpu.plan_display import plan_display
from vmtool.gpu.plan_persist import plan_persist
from vmtool.gpu.restore import PROBED_WITHIN, undo_moves
from vmtool.gpu.saved_state import GpuSavedState, claims, marks, proofs, record_device, records
from vmtool.gpu.select import DeviceRequest
from vmtool.gpu.services import holding_services, plan_start, plan_stop
from vmtool.gpu.vfio_driver import PLAIN, Choice, choose_driver
from vmtool.paths import State
from vmtool.plan import Action, MakeDir, Plan, Remove, Run, Step, WriteFile
from vmtool.records import record_text


@dataclass(frozen=True)
class Move:
    """A device that goes to VFIO, the driver that takes it, and what to remember."""

    device: PciDevice
    choice: Choice
    record: GpuSavedState


def directory(state: State) -> Path:
    """Where the journal of a bind lies; one at a time."""
    return state.root / "gpu" / "bind"


def plan_bind(state: State, facts: GpuFacts, request: DeviceRequest) -> Plan:
    """The plan of `vmtool gpu bind`.

    Raises:
        Refused, NotReady: as `check_bind`.
    """
    return Plan("gpu bind", directory(state), bind_steps(state, facts, request, check_bind(facts, request)))


def bind_steps(state: State, facts: GpuFacts, request: DeviceRequest, scope: Sequence[PciDevice]) -> tuple[Step, ...]:
    """The steps of a bind, for a plan of its own or within a launch.

    The undo gives exactly those devices back that were not on VFIO before.

    Args:
        scope: every device that has to go to VFIO, as `check_bind` gives it.
    """
    chosen = {device.bdf: choose_driver(facts.vfio, device) for device in scope}
    existing = [device for device in scope if device.driver == chosen[device.bdf].driver]
    details = facts.inventory.details
    moves = [Move(device, choice, record_device(device, details[device.bdf], choice.driver, request.owner))
             for device in scope if (choice := chosen[device.bdf]).driver != device.driver]
    moving = [move.device for move in moves]
    units = holding_services(facts, moving)
    persistent = sorted(facts.persistent & {device.bdf for device in moving})
    return (
        *(Step(f"bind {device.bdf} to {device.driver}", skip="already bound", subjects=(device.bdf,))
          for device in existing),
        *([plan_claim(state, scope, request.owner)] if request.owner else []),
        *([plan_records(state, moves)] if moves else []),
        *([plan_stop(units, persistent)] if units or persistent else []),
        *plan_display(facts, moving, marks(state)),
        *([plan_modules(facts, moves)] if moves else []),
        *([plan_moves(state, moves, request.deadline)] if moves else []),
        *([plan_proof(state, existing)] if existing and request.owner else []),
        *([plan_start(units)] if units else []),
        *(plan_persist([(device.bdf, chosen[device.bdf]) for device in scope]) if request.persist else ()),
    )


def plan_claim(state: State, scope: Sequence[PciDevice], owner: str) -> Step:
    """Note whom the devices serve, so that nobody else gets them, as long as it may have them open."""
    paths = [claims(state) / device.bdf for device in scope]
    return Step(f"claim {_names(scope)} for {owner}",
                (MakeDir(claims(state)), *(WriteFile(path, f"{owner}\n") for path in paths)),
                undo=(_freed(scope), *(Remove(path) for path in paths)))


def plan_records(state: State, moves: Sequence[Move]) -> Step:
    """Note where the devices come from, before anything changes; `vmtool gpu release` reads it."""
    paths = {records(state) / move.device.bdf: record_text(move.record) for move in moves}
    return Step(f"note the drivers of {_names(move.device for move in moves)}",
                (MakeDir(records(state)), *(WriteFile(path, text) for path, text in paths.items())),
                undo=(_freed([move.device for move in moves]), *(Remove(path) for path in paths)))


def _freed(devices: Iterable[PciDevice]) -> AwaitVfioUnused:
    """They were waited for when they were released."""
    return AwaitVfioUnused(_directories(devices), deadline=1.0)


def plan_modules(facts: GpuFacts, moves: Sequence[Move]) -> Step:
    """Load the drivers. They stay loaded: a driver without devices does nothing."""
    wanted = {move.choice.driver: move.choice.module for move in moves}
    runs: list[Action] = []
    if PLAIN not in facts.vfio.drivers:
        # The option is vfio-pci's also for the variants, which share its core: a sleeping GPU may not wake again.
        runs.append(Run(("modprobe", PLAIN, "disable_idle_d3=1"), deadline=60))
    runs += [Run(("modprobe", module), deadline=60) for driver, module in sorted(wanted.items())
             if driver != PLAIN and driver not in facts.vfio.drivers]
    title = f"load {', '.join(sorted({PLAIN, *wanted}))}"
    return Step(title, tuple(runs)) if runs else Step(title, skip="loaded")


def plan_moves(state: State, moves: Sequence[Move], deadline: float) -> Step:
    """Take all devices from their drivers and give them to VFIO's, all or none."""
    def write(writes: Iterable[tuple[str, str]]) -> WriteSysfs:
        return WriteSysfs(tuple(writes), marks=marks(state), deadline=deadline)

    bound = [move.device.bdf for move in moves if move.device.driver]
    unbind = [write((f"{DEVICES}/{bdf}/driver/unbind", bdf) for bdf in bound)] if bound else []
    targets = sorted({move.choice.driver for move in moves})
    return Step(
        f"bind {_names(move.device for move in moves)} to {', '.join(targets)}",
        (
            write(item for move in moves for item in _prepare(move)),
            *unbind,
            write(item for move in moves for item in _probe(move)),
            ExpectDriver(tuple((f"{DEVICES}/{move.device.bdf}", move.choice.driver) for move in moves),
                         marks=marks(state),
                         deadline=min(deadline, PROBED_WITHIN)),
            AwaitVfioNodes(_directories(move.device for move in moves)),
            ProveVfio(_directories(move.device for move in moves), proofs(state)),
        ),
        undo=(*undo_moves(state, [move.record for move in moves], deadline),
              *(Remove(proofs(state) / move.device.bdf) for move in moves)),
        subjects=tuple(move.device.bdf for move in moves),
    )


def plan_proof(state: State, existing: Sequence[PciDevice]) -> Step:
    """Prove what was bound before: by whom, and whether a machine ever started with it, nobody knows."""
    return Step(f"prove that a virtual machine gets {_names(existing)}",
                (ProveVfio(_directories(existing), proofs(state)),))


def _prepare(move: Move) -> list[tuple[str, str]]:
    """Wake the device (its sleep may be its last) and name the driver that alone may take it."""
    path, record = f"{DEVICES}/{move.device.bdf}", move.record
    writes = [(f"{path}/power/control", "on")] if record.power_control not in (None, "on") else []
    writes += [(f"{path}/d3cold_allowed", "0")] if record.d3cold_allowed not in (None, "0") else []
    return [*writes, (f"{path}/driver_override", move.choice.driver)]


def _probe(move: Move) -> list[tuple[str, str]]:
    """Probe, and wake the device once more: vfio-pci lets it sleep when it takes it (pm_runtime_allow in
    drivers/vfio/pci/vfio_pci_core.c), and disable_idle_d3 counts only where vmtool has loaded the module."""
    awake = [(f"{DEVICES}/{move.device.bdf}/power/control", "on")] if move.record.power_control else []
    return [("/sys/bus/pci/drivers_probe", move.device.bdf), *awake]


def _directories(devices: Iterable[PciDevice]) -> tuple[str, ...]:
    return tuple(f"{DEVICES}/{device.bdf}" for device in devices)


def _names(devices: Iterable[PciDevice]) -> str:
    return ", ".join(device.bdf for device in devices)
