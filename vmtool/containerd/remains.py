"""What of a container is on the machine, whoever remembers it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.containerd.actions import CGROUPS
from vmtool.containerd.container import cgroup_of
from vmtool.containerd.endpoint import NAMESPACE, SYSTEM, Endpoint, private_endpoint
from vmtool.containerd.shims import read_shims
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.paths import State


@dataclass(frozen=True)
class ContainerRemains:
    """What one containerd, or the kernel, shows of a container.

    Args:
        seen: such as "shim (pid 4211)", "container", "task", "snapshot".
    """

    endpoint: Endpoint
    seen: tuple[str, ...]


def endpoints(reader: Reader, state: State) -> Iterator[Endpoint]:
    """The containerds that may have something of this state directory's."""
    if reader.exists(str(SYSTEM)):
        yield Endpoint(SYSTEM, private=False)
    if reader.exists(str(state.containerd / "config.toml")):
        yield private_endpoint(state)


def is_kept_for(reader: Reader, state: State, user: str) -> bool:
    """Whether the private containerd is kept for `user`."""
    return reader.exists(str(state.containerd / "users" / user))


def read_container(reader: Reader, state: State, name: str) -> tuple[ContainerRemains, ...]:
    """The container, its task or its snapshot, by containerd."""
    found = (ContainerRemains(endpoint, tuple(_seen(reader, endpoint, name))) for endpoint in endpoints(reader, state))
    return tuple(remains for remains in found if remains.seen)


def has_cgroup(reader: Reader, name: str) -> bool:
    """Whether the container's cgroup is there (cgroup(7), versions 1 and 2)."""
    return any(reader.exists(f"{CGROUPS}/{part}{cgroup_of(name)}") for part in ("", "pids/"))


def _seen(reader: Reader, endpoint: Endpoint, name: str) -> Iterator[str]:
    yield from (f"shim (pid {pid})" for pid in read_shims(reader, name, NAMESPACE, {str(endpoint.socket)}))
    listed = _listed(reader, endpoint, "containers", "list", "--quiet")
    if listed is None:
        return
    if name in listed:
        yield "container"
    if name in (_listed(reader, endpoint, "task", "list", "--quiet") or ()):
        yield "task"
    if _listed(reader, endpoint, "snapshots", "info", name) is not None:
        yield "snapshot"


def _listed(reader: Reader, endpoint: Endpoint, *words: str) -> list[str] | None:
    """What containerd says; None when it does not answer, or knows no such thing."""
    if not reader.exists(str(endpoint.socket)):
        return None
    said = reader.run(endpoint.ctr("--connect-timeout", "1s", *words))
    return said.out.split() if said and not said.status else None
