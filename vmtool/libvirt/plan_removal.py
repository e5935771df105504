"""Steps that are named by what was found of a libvirt guest, and whose undo removes it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.containerd.endpoint import awake
from vmtool.libvirt.remains import GuestRemains
from vmtool.libvirt.workers import end_domain
from vmtool.paths import State
from vmtool.qemu.actions import KillQemu


def removal_of_guest(state: State, found: GuestRemains) -> Iterator[p.Step]:
    """The guest's disks, and its domain with its QEMU, which goes first."""
    paths, tree = found.paths, str(found.paths.directory / "tree")
    if found.disks:
        unmount = [action for endpoint in found.mounted for action in (*awake(state, endpoint), p.Run(
            endpoint.ctr("images", "unmount", "--rm", tree),
            absent_messages=("not found", "no such file", "invalid argument")))]
        yield p.Step(f"the disks in {paths.directory}", undo=(*unmount, p.Remove(paths.directory)))
    if found.qemu or found.uris or found.run:
        seen = [*(f"QEMU (pid {qemu.pid})" for qemu in found.qemu), *found.uris]
        yield p.Step(f"the domain {paths.domain}: {', '.join(seen) or paths.run}", undo=(
            *(p.run_worker(end_domain.Order(uri, paths.domain), deadline=90.0) for uri in found.uris),
            *(KillQemu(paths.domain, qemu.program) for qemu in found.qemu), p.Remove(paths.run)))
