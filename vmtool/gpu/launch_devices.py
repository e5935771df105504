"""The accelerators of a launch: from the spec to devices, from devices to what the launcher passes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from vmtool.errors import NotReady
from vmtool.findings import Finding, refuse
from vmtool.frozen import dataclass
from vmtool.gpu.check import choose
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.plan_bind import bind_steps
from vmtool.gpu.select import DeviceRequest
from vmtool.paths import State
from vmtool.plan import Step

# "group" is the node of legacy VFIO, which virtCCA wants; "iommufd" the device's own, which Kata 3.26 wants for a
# confidential guest. A device takes one or the other, never both.
Backend = Literal["group", "iommufd"]


class Accelerators(Protocol):
    """The spec's part, `spec.resources.accelerators`."""

    @property
    def count(self) -> int: ...
    @property
    def type(self) -> str | None: ...
    @property
    def memory(self) -> int | None: ...
    @property
    def bdf(self) -> tuple[str, ...]: ...


def request_of(spec: Accelerators, owner: str) -> DeviceRequest | None:
    """What a spec asks for; None when it asks for no accelerator.

    Args:
        owner: the instance, such as "instance chat".
    """
    if not spec.count and not spec.bdf:
        return None
    return DeviceRequest(bdfs=spec.bdf, type=spec.type or "", count=spec.count, memory=spec.memory or 0, owner=owner)


@dataclass(frozen=True)
class Selection:
    """The accelerators of a launch, chosen once for all that check, render or bind them.

    Args:
        scope: other functions of the cards and group members included.
        findings: reasons against binding them.
    """

    facts: GpuFacts
    request: DeviceRequest
    scope: tuple[PciDevice, ...]
    findings: tuple[Finding, ...]

    @property
    def bdfs(self) -> tuple[str, ...]:
        """The addresses."""
        return tuple(device.bdf for device in self.scope)


def select_accelerators(facts: GpuFacts, request: DeviceRequest) -> Selection:
    """Choose the devices that `plan_accelerators` binds."""
    scope, findings = choose(facts, request)
    return Selection(facts, request, scope, tuple(findings))


def plan_accelerators(state: State, selection: Selection) -> tuple[Step, ...]:
    """Claim and bind. The steps' undo, in the launch's own journal, releases what was not bound before.

    Raises:
        Refused, NotReady: as `vmtool.gpu.check.check_bind`.
    """
    refuse(selection.findings, "nothing was bound")
    return bind_steps(state, selection.facts, selection.request, selection.scope)


def device_paths(inventory: Inventory, bdfs: Iterable[str], backend: Backend) -> tuple[str, ...]:
    """The nodes that the launcher passes on, one per group or one per device.

    A group's number is known before the bind; a device's own node only afterwards, so `inventory` must be read then.

    Raises:
        NotReady: there is no such node.
    """
    paths: dict[str, None] = {}
    for bdf in bdfs:
        device, details = inventory.find(bdf), inventory.details.get(bdf)
        if device is None:
            raise NotReady(f"{bdf} is not there any more", hint="vmtool gpu list")
        if backend == "group":
            if device.group is None:
                raise NotReady(f"{bdf} has no IOMMU group", hint="vmtool gpu status " + bdf)
            paths[f"/dev/vfio/{device.group}"] = None
        elif details and details.vfio_node:
            paths[f"/dev/vfio/devices/{details.vfio_node}"] = None
        else:
            raise NotReady(f"{bdf} has no node below /dev/vfio/devices",
                           hint="bind it; if it is bound, the kernel lacks CONFIG_VFIO_DEVICE_CDEV")
    return tuple(paths)
