"""What of a libvirt guest is on the machine, whoever remembers it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.containerd.endpoint import Endpoint
from vmtool.containerd.remains import endpoints
from vmtool.facts.qemu_processes import QemuProcess, read_qemu
from vmtool.frozen import dataclass
from vmtool.libvirt.launch_domain import DomainPaths
from vmtool.machine import Reader
from vmtool.paths import State

# Where libvirt keeps the descriptions of domains: those that are defined, and those that run.
DESCRIPTIONS = ("/etc/libvirt/qemu", "/run/libvirt/qemu")


@dataclass(frozen=True)
class GuestRemains:
    """What is there.

    Args:
        disks: its directory is.
        mounted: containerds that may have an image mounted in it.
        uris: the libvirts that have its domain.
        run: its sockets are there.
    """

    paths: DomainPaths
    disks: bool
    mounted: tuple[Endpoint, ...]
    uris: tuple[str, ...]
    qemu: tuple[QemuProcess, ...]
    run: bool


def read_guest_remains(reader: Reader, state: State, name: str) -> GuestRemains:
    """Look for the guest of an instance."""
    paths = DomainPaths(state, name)
    tree = reader.exists(str(paths.directory / "tree"))
    return GuestRemains(paths, reader.exists(str(paths.directory)), tuple(endpoints(reader, state)) if tree else (),
                        tuple(_uris(reader, paths)), read_qemu(reader, paths.domain), reader.exists(str(paths.run)))


def _uris(reader: Reader, paths: DomainPaths) -> Iterator[str]:
    if any(reader.exists(f"{directory}/{paths.domain}.xml") for directory in DESCRIPTIONS):
        yield "qemu:///system"
    if reader.exists(str(paths.run / "libvirt")):
        yield paths.uri("embed", system=False)
