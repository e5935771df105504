"""Memory, huge pages, the control groups that limit a container, and free space on disk."""

from __future__ import annotations

import os
import re

from vmtool.frozen import dataclass
from vmtool.machine import Reader

CGROUP = "/sys/fs/cgroup"


@dataclass(frozen=True)
class MemoryFacts:
    """Memory in bytes, except `hugepages_*`, which count pages of `hugepage_size` bytes; None when unknown."""

    total: int | None
    available: int | None
    hugepages_total: int
    hugepages_free: int
    hugepage_size: int


@dataclass(frozen=True)
class CgroupFacts:
    """Control groups.

    Args:
        version: 2 when the unified hierarchy is at /sys/fs/cgroup, 1 for the older layout, None for neither.
        controllers: those that limits can be set with.
    """

    version: int | None
    controllers: tuple[str, ...]


@dataclass(frozen=True)
class DiskFacts:
    """Free space where `path` is or would be.

    Args:
        path: the directory that was asked about.
        existing: the directory itself or its nearest parent that could be looked at.
        free: bytes that an ordinary user could fill; None when even / could not be asked.
        filesystem: its type as stat(1) names it, such as ext2/ext3, xfs, tmpfs.
    """

    path: str
    existing: str
    free: int | None
    filesystem: str


def read_memory(reader: Reader) -> MemoryFacts:
    """Read /proc/meminfo."""
    text = reader.text("/proc/meminfo") or ""
    values = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)}
    total, available = values.get("MemTotal"), values.get("MemAvailable")
    return MemoryFacts(
        total=total * 1024 if total is not None else None,
        available=available * 1024 if available is not None else None,
        hugepages_total=values.get("HugePages_Total", 0),
        hugepages_free=values.get("HugePages_Free", 0),
        hugepage_size=values.get("Hugepagesize", 0) * 1024,
    )


def read_cgroups(reader: Reader) -> CgroupFacts:
    """Read which controllers are usable: cgroup.controllers of version 2, the mounted hierarchies of version 1."""
    unified = reader.text(f"{CGROUP}/cgroup.controllers")
    if unified is not None:
        return CgroupFacts(2, tuple(sorted(unified.split())))
    known = {line.split()[0] for line in (reader.text("/proc/cgroups") or "").splitlines()
             if not line.startswith("#") and line.split()[-1:] == ["1"]}
    # Several controllers may share a directory, "cpu,cpuacct".
    mounted = {name for entry in reader.names(CGROUP) for name in entry.split(",")} & known
    return CgroupFacts(1 if mounted else None, tuple(sorted(mounted)))


def read_disk(reader: Reader, path: str) -> DiskFacts:
    """Ask stat(1) for the file system of `path`, going up to what exists; nothing is created."""
    existing = path
    while True:
        # Free blocks for ordinary users, block size, type.
        output = reader.run(("stat", "-f", "-c", "%a %S %T", existing))
        if output and output.status == 0:
            blocks, size, kind = output.out.split()
            return DiskFacts(path, existing, int(blocks) * int(size), kind)
        if existing == os.path.dirname(existing):
            return DiskFacts(path, existing, None, "")
        existing = os.path.dirname(existing)
