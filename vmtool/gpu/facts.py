"""Everything that binding and releasing must know, read again for each decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from vmtool.facts.cpu import read_cpu, read_is_root
from vmtool.facts.kernel import read_kernel
from vmtool.frozen import dataclass
from vmtool.gpu.device_users import SHARED, Console, Holder, read_consoles, read_holders, read_nodes
from vmtool.gpu.framebuffers import Framebuffer, read_framebuffers
from vmtool.gpu.host_critical import HostCriticalDevice, read_host_critical
from vmtool.gpu.inventory import Inventory, read_inventory
from vmtool.gpu.iommu import read_iommu, read_reserved
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.vfio_facts import VfioFacts, read_vfio
from vmtool.machine import DeviceReader, Reader
from vmtool.paths import State


@dataclass(frozen=True)
class GpuFacts:
    """The inventory, and the host around it.

    Args:
        enable: how to turn the IOMMU on; empty when there are IOMMU groups.
        nodes: device nodes of each device of `inventory.details`.
        persistent: devices that NVIDIA's kernel persistence mode keeps in use although nobody has them open.
        framebuffers: of the firmware, in the memory of PCI devices.
        reserved: IOMMU group -> address ranges that the firmware wants mapped for it at all times.
    """

    inventory: Inventory
    is_root: bool
    vfio: VfioFacts
    enable: str = ""
    host_critical: tuple[HostCriticalDevice, ...] = ()
    holders: tuple[Holder, ...] = ()
    nodes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    consoles: tuple[Console, ...] = ()
    persistent: frozenset[str] = frozenset()
    framebuffers: tuple[Framebuffer, ...] = ()
    reserved: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def holders_of(self, device: PciDevice) -> tuple[Holder, ...]:
        """The processes that use the device. One that has only the driver's common nodes open, and no single device's,
        is taken to use all of the driver's devices: it cannot be known."""
        own = self.nodes.get(device.bdf, frozenset())
        shared = SHARED.get(device.driver, ())
        others = frozenset().union(*self.nodes.values())
        return tuple(holder for holder in self.holders
                     if own & set(holder.nodes)
                     or (any(node.startswith(shared) for node in holder.nodes) and not others & set(holder.nodes)))


def read_gpu(reader: DeviceReader, state: State) -> GpuFacts:
    """Everything; it looks at every process."""
    inventory = read_inventory(reader, state)
    vfio, framebuffers = read_vfio(reader), read_framebuffers(reader)
    concerned = [device for device in inventory.devices if device.bdf in inventory.details]
    return GpuFacts(
        inventory=inventory,
        is_root=read_is_root(reader),
        vfio=vfio,
        enable="" if vfio.groups else _enable(reader),
        host_critical=read_host_critical(reader),
        holders=read_holders(reader),
        nodes=read_nodes(reader, {device.bdf: device.group for device in concerned if device.bdf not in inventory.hung},
                         framebuffers),
        consoles=read_consoles(reader, framebuffers),
        persistent=_persistent(reader, inventory),
        framebuffers=framebuffers,
        reserved=read_reserved(reader, {device.group for device in concerned if device.group is not None}),
    )


def _enable(reader: Reader) -> str:
    cpu, kernel = read_cpu(reader), read_kernel(reader)
    return read_iommu(reader, cpu, kernel).enable


def _persistent(reader: Reader, inventory: Inventory) -> frozenset[str]:
    """Ask nvidia-smi: /proc and /sys do not tell. The daemon's persistence shows as a holder instead."""
    if not any(device.driver == "nvidia" for device in inventory.accelerators) or not reader.which("nvidia-smi"):
        return frozenset()
    output = reader.run(("nvidia-smi", "--query-gpu=pci.bus_id,persistence_mode", "--format=csv,noheader"), 20.0)
    found = set()
    for line in output.out.splitlines() if output and output.status == 0 else ():
        bus, _, mode = line.partition(",")
        if mode.strip() == "Enabled":
            # nvidia-smi writes the domain with eight digits and in capitals.
            found.add(bus.strip().lower()[-12:])
    return frozenset(found)
