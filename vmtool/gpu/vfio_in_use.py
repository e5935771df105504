"""Whether a machine still has devices of VFIO open: told by their nodes, also when no process can be seen to have them.

    python -m vmtool.gpu.vfio_in_use DIRECTORY...      a line for each device that is held; DIRECTORY is the device's

A QEMU that ends can be out of the process table while the kernel still unpins its guest's memory.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator, Sequence

from vmtool.errors import VmtoolError
from vmtool.gpu.device_users import read_holders
from vmtool.gpu.vfio_driver import is_vfio
from vmtool.host.guarded_reads import read_guarded
from vmtool.host.local import Machine
from vmtool.machine import Reader
from vmtool.plan import AwaitFree

POLL = 0.2
# A group's node can be opened once (vfio_group_fops_open in drivers/vfio/group.c); a busy kernel may not answer at all.
ANSWERS_WITHIN = 2.0


def await_free(action: AwaitFree) -> None:
    """Wait.

    Raises:
        VmtoolError: a device is still held.
    """
    end = time.monotonic() + action.deadline
    while lines := held(action.devices):
        if time.monotonic() > end:
            raise VmtoolError("not given back, since a machine still has it open", details=lines,
                              hint="end that machine, then: vmtool recover")
        time.sleep(POLL)


def held(directories: Sequence[str], reader: Reader | None = None) -> list[str]:
    """A line for each device that is held."""
    reader = reader or Machine()
    nodes = {directory: nodes for directory in directories if (nodes := nodes_of(reader, directory))}
    return list(_held(reader, nodes)) if nodes else []


def _held(reader: Reader, nodes: dict[str, tuple[str, ...]]) -> Iterator[str]:
    holders = read_holders(reader)
    groups = tuple(sorted({path for paths in nodes.values() for path in paths if "/devices/" not in path}))
    answers = read_guarded(groups, probe, ANSWERS_WITHIN)
    for directory, paths in nodes.items():
        bdf = os.path.basename(directory)
        found = [holder for holder in holders if set(holder.nodes) & set(paths)]
        if found:
            yield from (f"{bdf} is held by pid {holder.pid} ({holder.command})" for holder in found)
        elif any(answers.get(path, "silent") for path in paths if path in groups):
            yield f"{bdf} is held in the kernel, by no process that can be seen"


def nodes_of(reader: Reader, directory: str) -> tuple[str, ...]:
    """The nodes below /dev/vfio of a device; none when VFIO does not have it."""
    driver = (reader.link(f"{directory}/driver") or "").rpartition("/")[2]
    group = (reader.link(f"{directory}/iommu_group") or "").rpartition("/")[2]
    if not is_vfio(driver):
        return ()
    own = tuple(f"/dev/vfio/devices/{name}" for name in reader.names(f"{directory}/vfio-dev"))
    return (*((f"/dev/vfio/{group}",) if group else ()), *own)


def probe(path: str) -> str:
    """"busy" when a group's node is open; opening it does nothing else."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return "busy" if error.errno == errno.EBUSY else ""
    return ""


if __name__ == "__main__":
    print("".join(f"{line}\n" for line in held(sys.argv[1:])), end="")
