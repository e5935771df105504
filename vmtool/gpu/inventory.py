"""The devices of this host, and what vmtool remembers of them: quick enough for a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from vmtool.frozen import dataclass
from vmtool.gpu.device_types import is_accelerator, memory_of
from vmtool.gpu.pci import PciDetails, PciDevice, read_details, read_pci
from vmtool.gpu.saved_state import GpuSavedState, read_claims, read_hung, read_proofs, read_records
from vmtool.machine import DeviceReader
from vmtool.paths import State


@dataclass(frozen=True)
class Inventory:
    """The devices, and what vmtool remembers of them.

    Args:
        devices: all PCI devices.
        details: of accelerators, of the other functions of their cards and of their groups' members.
        claims: address -> whom it serves, such as "instance chat".
        hung: address -> lines that tell where, of devices that hung since the machine was booted.
        proofs: address -> what was seen when it was proven, since the machine was booted, that a machine gets it.
    """

    devices: tuple[PciDevice, ...]
    details: Mapping[str, PciDetails]
    records: Mapping[str, GpuSavedState]
    claims: Mapping[str, str]
    hung: Mapping[str, tuple[str, ...]]
    proofs: Mapping[str, str] = field(default_factory=dict)

    @property
    def accelerators(self) -> tuple[PciDevice, ...]:
        """GPUs, NVSwitches and the like."""
        return tuple(device for device in self.devices if is_accelerator(device))

    @property
    def whole(self) -> tuple[PciDevice, ...]:
        """The accelerators without virtual functions, whose mode and reset are their physical function's."""
        return tuple(device for device in self.accelerators if not self.is_virtual(device))

    def find(self, bdf: str) -> PciDevice | None:
        """The device with this address."""
        return next((device for device in self.devices if device.bdf == bdf), None)

    def is_locked(self, device: PciDevice) -> bool:
        """Whether something holds its lock, for good perhaps: what takes the lock must not be asked."""
        details = self.details.get(device.bdf)
        return device.bdf in self.hung or bool(details and details.busy)

    def is_virtual(self, device: PciDevice) -> bool:
        """Whether it is a virtual function of SR-IOV."""
        details = self.details.get(device.bdf)
        return bool(details and details.physfn)

    def physical_function(self, device: PciDevice) -> PciDevice | None:
        """The physical function of a virtual one."""
        details = self.details.get(device.bdf)
        return self.find(details.physfn) if details and details.physfn else None

    def virtual_functions(self, device: PciDevice) -> tuple[PciDevice, ...]:
        """The virtual functions of a physical one that were seen; `PciDetails.vfs` counts them all."""
        return tuple(other for other in self.devices
                     if (details := self.details.get(other.bdf)) and details.physfn == device.bdf)

    def is_divided(self, device: PciDevice) -> bool:
        """Whether it is a physical function with virtual ones, which is what guests get of it then."""
        details = self.details.get(device.bdf)
        return bool(details and details.vfs) or bool(self.virtual_functions(device))

    def memory(self, device: PciDevice) -> int | None:
        """Bytes of its memory; None when that is not known, as of a virtual function, which has a share of it."""
        return None if self.is_virtual(device) else memory_of(device)

    def members(self, device: PciDevice) -> tuple[PciDevice, ...]:
        """The other devices of its IOMMU group."""
        return tuple(other for other in self.devices
                     if other.group is not None and other.group == device.group and other.bdf != device.bdf)


def read_inventory(reader: DeviceReader, state: State) -> Inventory:
    """Read /sys and vmtool's own records."""
    devices = read_pci(reader)
    chosen = [device for device in devices if is_accelerator(device)]
    cards = {device.card for device in chosen}
    groups = {device.group for device in chosen} - {None}
    concerned = [device.bdf for device in devices if device.card in cards or device.group in groups]
    hung = read_hung(reader, state)
    return Inventory(devices, read_details(reader, concerned, hung), read_records(reader, state),
                     read_claims(reader, state), hung, read_proofs(reader, state))
