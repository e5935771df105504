"""The control group of a process: version 1 or 2 (cgroups(7))."""

from __future__ import annotations

from vmtool.machine import Reader

ROOT = "/sys/fs/cgroup"


def read_cgroup(reader: Reader, pid: int, controller: str, *, first: str, second: str) -> str:
    """What a file of the process's control group says; empty when it does not.

    Args:
        controller: such as "memory".
        first, second: the file's name in a cgroup of version 1 and of version 2.
    """
    for line in (reader.text(f"/proc/{pid}/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return (reader.text(f"{ROOT}/{controller}{path}/{first}") or "").strip()
        if not controllers:
            return (reader.text(f"{ROOT}{path}/{second}") or "").strip()
    return ""
