"""What vmtool remembers of a device that it took: where it came from, so that it goes back there exactly."""

from __future__ import annotations

from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.gpu.pci import PciDetails, PciDevice
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.records import record_of

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class GpuSavedState:
    """A device before it was bound, and since.

    Args:
        driver: the driver it had, empty for none; `module` is that driver's, to be loaded again if it is gone.
        override: driver_override as it was, empty for none.
        power_control, d3cold_allowed: as they were; None when the device has no such attribute.
        bound_to: the VFIO driver that it was given to.
        owner: the instance that it was bound for, such as "instance chat"; empty for `vmtool gpu bind`; None in a file
            of a vmtool that did not note it.
    """

    bdf: str
    driver: str
    module: str
    override: str
    power_control: str | None
    d3cold_allowed: str | None
    bound_to: str
    owner: str | None = None


def record_device(device: PciDevice, details: PciDetails, bound_to: str, owner: str) -> GpuSavedState:
    """The record of a device as it is now."""
    return GpuSavedState(device.bdf, device.driver, details.module, details.override, details.power_control or None,
                  details.d3cold_allowed, bound_to, owner)


def records(state: State) -> Path:
    """The directory of the records, a file per device."""
    return state.root / "gpu" / "devices"


def marks(state: State) -> Path:
    """The directory of the devices that hung: the first line is the boot it happened in, the rest where."""
    return state.root / "gpu" / "hung"


def claims(state: State) -> Path:
    """The directory that shows whom a device serves: a file per device with, say, "instance chat" in it."""
    return state.root / "gpu" / "claims"


def proofs(state: State) -> Path:
    """The directory of what was proven of bound devices: the first line is the boot, the rest what was seen."""
    return state.root / "gpu" / "proofs"


def read_proofs(reader: Reader, state: State) -> dict[str, str]:
    """What was proven of devices since the machine was booted."""
    return {bdf: rest.strip() for bdf, rest in _of_this_boot(reader, proofs(state)).items()}


def read_claims(reader: Reader, state: State) -> dict[str, str]:
    """Whom each claimed device serves."""
    names = reader.names(str(claims(state)))
    return {bdf: owner for bdf in names if (owner := (reader.text(f"{claims(state)}/{bdf}") or "").strip())}


def read_records(reader: Reader, state: State) -> dict[str, GpuSavedState]:
    """The records by address; a file cut short, or of another kind, is none."""
    found = {}
    for name in reader.names(str(records(state))):
        try:
            record = record_of(GpuSavedState, reader.text(f"{records(state)}/{name}") or "")
        except ValueError:
            continue
        found[record.bdf] = record
    return found


def read_hung(reader: Reader, state: State) -> dict[str, tuple[str, ...]]:
    """The devices that hung since the machine was booted, with the lines that tell where."""
    return {bdf: tuple(rest.splitlines()) for bdf, rest in _of_this_boot(reader, marks(state)).items()}


def _of_this_boot(reader: Reader, directory: Path) -> dict[str, str]:
    """The files whose first line is this boot's number, without that line."""
    boot, found = (reader.text(BOOT_ID) or "").strip(), {}
    for name in reader.names(str(directory)):
        first, _, rest = (reader.text(f"{directory}/{name}") or "").partition("\n")
        if first == boot:
            found[name] = rest
    return found
