"""Growing an image in its place: what changes is worked out before, the undo file is saved, and then it is written.

A worker. The image and the manifest next to it are grown, and were found clean, or they are as they were; after a kill
`roll_back` makes them so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmtool.errors import NotReady, Refused, system_error
from vmtool.foreign import parse_json, read_regular
from vmtool.frozen import dataclass
from vmtool.host import files, leases, safe_open
from vmtool.machine import Host, check
from vmtool.rootfs.format.block_groups import read_metadata
from vmtool.rootfs.format.hash_tree import Verity
from vmtool.rootfs.format.image_file import is_grow_interrupted, manifest_path
from vmtool.rootfs.format.layout import Geometry, headers
from vmtool.rootfs.format.sparse import written
from vmtool.rootfs.format.superblock import PLACE, SIZE, parse_superblock
from vmtool.rootfs.grow import scratch_filesystem
from vmtool.rootfs.grow.undo_file import Piece, create
from vmtool.rootfs.grow.updated_hashes import Changes, PreservedHashes, read_preserved_hashes
from vmtool.rootfs.grow.workers import roll_back
from vmtool.rootfs.metadata.manifest import LARGEST

# Bytes that are held at a time of what lies behind the file system.
_PART = 8 << 20
_HINT = "vmtool rootfs resize --copy grows a copy, which e2fsck repairs first"


@dataclass(frozen=True)
class Order:
    """What the image shall become.

    Args:
        verity: of the hashes that are there; None when there are none.
        manifest: the file that describes the image; None when there is none.
        resize2fs, e2fsck: how they are called, e2fsck with its arguments.
    """

    image: Path
    old: Geometry
    new: Geometry
    verity: Verity | None
    manifest: Path | None
    resize2fs: tuple[str, ...]
    e2fsck: tuple[str, ...]


def run(order: Order, host: Host) -> None:
    """Do it.

    Raises:
        VmtoolError: it cannot be grown so; or the system failed.
    """
    try:
        grow(order, host)
    except OSError as error:
        raise system_error(error, str(order.image)) from error


def grow(order: Order, host: Host) -> None:
    """See the module's docstring.

    Raises:
        VmtoolError: it cannot be grown so.
    """
    image, new = order.image, order.new
    if is_grow_interrupted(image):
        raise Refused(f"{image}: growing it was interrupted", hint="vmtool recover")
    with contextlib.ExitStack() as until_done:
        with leases.alone(image) as held:
            changes, preserved = _work_out(held, order, host)
            pieces = _pieces(held.descriptor, preserved, changes)
            undo = until_done.enter_context(create(image, _head(held, preserved), pieces))
            try:
                manifest = _write(held, new, preserved, changes)
            except BaseException:
                # While nobody else can open it.
                roll_back.go_back(held, undo)
                raise
        # e2fsck opens it too. Who waits to write to it is let in when it is found clean, and not before.
        with leases.unwritten(image) as held:
            check(order.e2fsck, host.execute(order.e2fsck, deadline=3600), _HINT)
            os.fsync(held.descriptor)
            if manifest:
                safe_open.rewrite(manifest_path(image), manifest)
            # From here on it is grown.
            undo.remove()


def _work_out(held: leases.Held, order: Order, host: Host) -> tuple[Changes, PreservedHashes]:
    """All that will change, and what will stay valid. Nothing is changed yet."""
    descriptor, old, new = held.descriptor, order.old, order.new
    block = parse_superblock(os.pread(descriptor, PLACE + SIZE, old.start))
    if os.fstat(descriptor).st_size != old.total or not block or not block.clean or not (
            block.size <= old.size and new.size <= block.largest):
        raise NotReady(f"{held.image} was changed since it was looked at", hint="try again")
    end = old.start + read_metadata(scratch_filesystem.reader(descriptor, old.start)).size
    grown = scratch_filesystem.grow(host, descriptor, new.start, new.size, held.image.parent, order.resize2fs)
    changes = [(new.start + at, data) for at, data in grown]
    changes += [(at, data) for at, data in headers(new).items() if os.pread(descriptor, len(data), at) != data]
    values = parse_json(read_regular(order.manifest, LARGEST)) if order.manifest else {}
    return changes, read_preserved_hashes(descriptor, old, end, order.verity, values, changes)


def _head(held: leases.Held, preserved: PreservedHashes) -> dict[str, Any]:
    status, manifest = os.fstat(held.descriptor), manifest_path(held.image)
    text = read_regular(manifest, LARGEST).decode() if manifest.exists() else None
    kept = {"manifest": text} if preserved.values else {}
    return {"size": status.st_size, "times": [status.st_atime_ns, status.st_mtime_ns], "end": preserved.end} | kept


def _pieces(descriptor: int, preserved: PreservedHashes, changes: Changes) -> Iterator[Piece]:
    """What will change in the file system and before it, and all that lies behind it: the old hashes, above all."""
    for at, data in changes:
        if at < preserved.end:
            length = min(len(data), preserved.end - at)
            yield Piece(at, os.pread(descriptor, length, at), data[:length])
    for start, stop in written(descriptor, os.fstat(descriptor).st_size, preserved.end):
        for at in range(start, stop, _PART):
            yield Piece(at, os.pread(descriptor, min(_PART, stop - at), at))


def _write(held: leases.Held, new: Geometry, preserved: PreservedHashes, changes: Changes) -> str:
    """Change the image.

    Returns:
        The new manifest; empty when there is none.
    """
    held.check()
    os.ftruncate(held.descriptor, preserved.end)
    os.ftruncate(held.descriptor, new.total)
    for at, data in changes:
        held.check()
        files.write_at(held.descriptor, data, at)
    made = preserved.tree(held.descriptor, new, changes)
    if made:
        files.write_at(held.descriptor, made[1], new.hash_start)
        changes = [*changes, (new.hash_start, made[1])]
    manifest = preserved.manifest(held.descriptor, made[0] if made else None, changes) if preserved.values else ""
    held.check()
    return manifest
