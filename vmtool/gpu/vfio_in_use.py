"""Whether a machine still has devices of VFIO open: by their nodes, also when no process can be seen to have them.

A QEMU that ends can be out of the process table while the kernel still unpins its guest's memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from vmtool.gpu.device_users import read_holders
from vmtool.gpu.pci import vfio_names
from vmtool.gpu.vfio_driver import is_vfio
from vmtool.machine import DeviceReader, Reader

POLL = 0.2
# Seconds; a busy kernel may not answer at all.
ANSWERS_WITHIN = 2.0


def devices_in_use(reader: DeviceReader, directories: Sequence[str]) -> list[str]:
    """A line for each device that is held."""
    nodes = {directory: nodes for directory in directories if (nodes := nodes_of(reader, directory))}
    return list(_held(reader, nodes)) if nodes else []


def _held(reader: DeviceReader, nodes: dict[str, tuple[str, ...]]) -> Iterator[str]:
    holders = read_holders(reader)
    groups = tuple(sorted({path for paths in nodes.values() for path in paths if "/devices/" not in path}))
    answers = reader.busy(groups, ANSWERS_WITHIN)
    for directory, paths in nodes.items():
        bdf = os.path.basename(directory)
        found = [holder for holder in holders if set(holder.nodes) & set(paths)]
        if found:
            yield from (f"{bdf} is held by pid {holder.pid} ({holder.command})" for holder in found)
        elif any(answers.get(path, True) for path in paths if path in groups):
            yield f"{bdf} is held in the kernel, by no process that can be seen"


def nodes_of(reader: Reader, directory: str) -> tuple[str, ...]:
    """The nodes below /dev/vfio of a device; none when VFIO does not have it."""
    driver = (reader.link(f"{directory}/driver") or "").rpartition("/")[2]
    group = (reader.link(f"{directory}/iommu_group") or "").rpartition("/")[2]
    if not is_vfio(driver):
        return ()
    own = tuple(f"/dev/vfio/devices/{name}" for name in vfio_names(reader, directory))
    return (*((f"/dev/vfio/{group}",) if group else ()), *own)


def own_nodes(reader: Reader, directory: str) -> tuple[str, ...]:
    """The nodes below /dev/vfio/devices that the kernel has numbers for, whether they are there yet or not."""
    return tuple(f"/dev/vfio/devices/{name}" for name in vfio_names(reader, directory)
                 if reader.exists(f"{directory}/vfio-dev/{name}/dev"))
