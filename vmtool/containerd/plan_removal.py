"""Steps that are named by what was found of a container, and whose undo removes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from vmtool.containerd.actions import RemoveCgroup
from vmtool.containerd.container import cgroup_of, removal
from vmtool.containerd.endpoint import awake, start_daemon
from vmtool.containerd.leases import lease_mark
from vmtool.containerd.remains import ContainerRemains
from vmtool.paths import State
from vmtool.plan import Remove, Step, StopDaemon


def removal_of_container(state: State, directory: Path, name: str, found: Iterable[ContainerRemains], *,
                         cgroup: bool) -> Iterator[Step]:
    """The container, wherever it was seen, and its cgroup, which goes last.

    Args:
        directory: of the subject that started it.
        cgroup: it is there.
    """
    if cgroup:
        yield Step(f"the cgroup {cgroup_of(name)}", undo=(RemoveCgroup(cgroup_of(name)),))
    for remains in found:
        gone = removal(remains.endpoint, name, lease_mark(state, directory))
        yield Step(f"{', '.join(remains.seen)} of {name} in the containerd on {remains.endpoint.socket}",
                   undo=(*awake(state, remains.endpoint), *gone))


def release_of_containerd(state: State, user: str) -> Step:
    """The private containerd is kept for one user less, and ends with the last."""
    users = state.containerd / "users"
    return Step(f"vmtool's own containerd, kept for {user}",
                undo=(Remove(users / user), StopDaemon(start_daemon(state).pidfile, users)))
