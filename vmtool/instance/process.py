"""Finding an instance's process: by its pid file, and where that is gone or damaged by what nobody can take away.

A container's first process is the child of the shim that containerd started under the instance's name, in the cgroup
that is named after it; a guest's is the QEMU of that name.
"""

from __future__ import annotations

import re
from pathlib import Path

from vmtool.containerd.endpoint import NAMESPACE, SYSTEM, private_endpoint
from vmtool.containerd.shims import read_shims
from vmtool.facts.process import has_ended, lineage
from vmtool.facts.qemu_processes import read_qemu
from vmtool.host import daemons
from vmtool.machine import Reader
from vmtool.paths import State

# What Kata and vmtool call the virtual machine of an instance.
GUESTS = ("sandbox-{}", "vmtool-{}")


def find_process(reader: Reader, state: State, name: str, pidfile: Path, *, starting: bool = False) -> int | None:
    """The pid of the instance's process; None when none lives.

    Args:
        starting: the pid file may be the one that `ctr` has just written, without a start time.
    """
    return daemons.living(pidfile, certain=not starting) or search_process(reader, state, name)


def search_process(reader: Reader, state: State, name: str) -> int | None:
    """The same, without the pid file."""
    for shim in read_shims(reader, name, NAMESPACE, {str(SYSTEM), str(private_endpoint(state).socket)}):
        # What has ended stays there for as long as the shim does not look after it.
        if inside := [pid for pid in pids(reader) if lineage(reader, pid)[1:2] == [shim] and _is_in(reader, pid, name)
                      and not has_ended(reader, pid)]:
            return next((pid for pid in inside if _is_first(reader, pid)), inside[0])
    found = [qemu.pid for form in GUESTS for qemu in read_qemu(reader, form.format(name))]
    return found[0] if found else None


def pids(reader: Reader) -> list[int]:
    """Every process."""
    return sorted(int(entry) for entry in reader.names("/proc") if entry.isdecimal())


def _is_in(reader: Reader, pid: int, name: str) -> bool:
    """Whether it is in the cgroup of the instance (cgroup(7), versions 1 and 2)."""
    return any(line.endswith(f"/vmtool-{name}") for line in (reader.text(f"/proc/{pid}/cgroup") or "").splitlines())


def _is_first(reader: Reader, pid: int) -> bool:
    """Whether it is number 1 in its own pid namespace; what `exec` started is not."""
    return bool(re.search(r"^NSpid:.*\t1$", reader.text(f"/proc/{pid}/status") or "", re.MULTILINE))
