"""Giving devices back: each to exactly the driver, override and power settings that it came from."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.gpu.actions import AwaitVfioUnused, ExpectDriver, WriteSysfs
from vmtool.gpu.pci import DEVICES, DRIVERS
from vmtool.gpu.saved_state import GpuSavedState, marks
from vmtool.paths import State
from vmtool.plan import Action

# Seconds for a driver that the kernel probes later than asked.
PROBED_WITHIN = 5.0

def undo_moves(state: State, records: Sequence[GpuSavedState], deadline: float) -> tuple[Action, ...]:
    """From wherever a bind stopped to where it started; harmless when it did not start.

    The last write names the driver (drivers/NAME/bind) instead of leaving the choice to the kernel (drivers_probe):
    with two drivers that match, a probe may take the other one, and it swallows the error of the one it tries.
    """
    def write(writes: Sequence[tuple[str, str]], when: Sequence[tuple[str, str]]) -> WriteSysfs:
        return WriteSysfs(tuple(writes), tuple(when), marks=marks(state), deadline=deadline)

    paths = {record.bdf: f"{DEVICES}/{record.bdf}" for record in records}
    driven = [record for record in records if record.driver]
    bind = [write([(f"{DRIVERS}/{record.driver}/bind", record.bdf) for record in driven],
                  [(paths[record.bdf], "") for record in driven])] if driven else []
    power = [(paths[record.bdf], item) for record in records for item in _power(record)]
    return (
        AwaitVfioUnused(tuple(paths.values())),
        write([(f"{path}/driver/unbind", bdf) for bdf, path in paths.items()],
              [(paths[record.bdf], record.bound_to) for record in records]),
        write([(f"{paths[record.bdf]}/driver_override", record.override) for record in records],
              [(path, "*") for path in paths.values()]),
        *bind,
        # Last, since drivers change it too when they take or leave a device.
        *([write([item for _, item in power], [(path, "*") for path, _ in power])] if power else []),
        ExpectDriver(tuple((paths[record.bdf], record.driver) for record in records), marks=marks(state),
                     gone=True, deadline=min(deadline, PROBED_WITHIN)),
    )


def _power(record: GpuSavedState) -> list[tuple[str, str]]:
    """The settings that a bind changed."""
    path = f"{DEVICES}/{record.bdf}"
    values = {"power/control": record.power_control, "d3cold_allowed": record.d3cold_allowed}
    return [(f"{path}/{name}", value) for name, value in values.items() if value is not None]
