"""Growing an image in its place: what changes is worked out before, the way back is saved, and then it is written.

    python -m vmtool.rootfs.grow.workers.grow_in_place IMAGE ORDER

ORDER is a file with {"old", "new": geometries, "verity": root hash, salt and blocks or null, "manifest": the file that
tells of the image, or "", "resize2fs", "e2fsck": how they are called}. The image and the manifest beside it are grown,
and were found clean, or they are as they were; after a kill `wayback` makes them so.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmtool import machine
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.host import leases, processes, safe_open
from vmtool.rootfs.format.block_groups import read_books
from vmtool.rootfs.format.hash_tree import Verity
from vmtool.rootfs.format.image_file import is_torn, manifest_path
from vmtool.rootfs.format.layout import Geometry, headers
from vmtool.rootfs.format.sparse import written
from vmtool.rootfs.format.superblock import PLACE, SIZE, parse_superblock
from vmtool.rootfs.grow import scratch_filesystem
from vmtool.rootfs.grow.undo_file import Piece, create
from vmtool.rootfs.grow.updated_hashes import Changes, Seal, read_seal
from vmtool.rootfs.grow.workers import roll_back

# Bytes that are held at a time of what lies behind the file system.
_PART = 8 << 20
_HINT = "vmtool rootfs resize --copy grows a copy, which e2fsck repairs first"


def grow(image: Path, order: dict[str, Any]) -> None:
    """See the module's docstring.

    Raises:
        VmtoolError: it cannot be grown so.
    """
    if is_torn(image):
        raise Refused(f"{image}: growing it was interrupted", hint="vmtool recover")
    old, new = Geometry(**order["old"]), Geometry(**order["new"])
    with contextlib.ExitStack() as until_done:
        with leases.alone(image) as held:
            changes, seal = _work_out(held, old, new, order)
            undo = until_done.enter_context(create(image, _head(held, seal), _pieces(held.descriptor, seal, changes)))
            try:
                manifest = _write(held, new, seal, changes)
            except BaseException:
                # While nobody else can open it.
                roll_back.go_back(held, undo)
                raise
        # e2fsck opens it too. Who waits to write to it is let in when it is found clean, and not before.
        with leases.unwritten(image) as held:
            machine.check(order["e2fsck"], processes.run(order["e2fsck"], deadline=3600), _HINT)
            os.fsync(held.descriptor)
            if manifest:
                safe_open.rewrite(manifest_path(image), manifest)
            # From here on it is grown.
            undo.remove()


def _work_out(held: leases.Held, old: Geometry, new: Geometry, order: dict[str, Any]) -> tuple[Changes, Seal]:
    """All that will change, and what will stay valid. Nothing is changed yet."""
    descriptor = held.descriptor
    block = parse_superblock(os.pread(descriptor, PLACE + SIZE, old.start))
    if os.fstat(descriptor).st_size != old.total or not block or not block.clean or not (
            block.size <= old.size and new.size <= block.largest):
        raise NotReady(f"{held.image} was changed since it was looked at", hint="try again")
    end = old.start + read_books(scratch_filesystem.reader(descriptor, old.start)).size
    grown = scratch_filesystem.grow(descriptor, new.start, new.size, held.image.parent, order["resize2fs"])
    changes = [(new.start + at, data) for at, data in grown]
    changes += [(at, data) for at, data in headers(new).items() if os.pread(descriptor, len(data), at) != data]
    told = json.loads(Path(order["manifest"]).read_text()) if order["manifest"] else {}
    verity = Verity(**order["verity"]) if order["verity"] else None
    return changes, read_seal(descriptor, old, end, verity, told, changes)


def _head(held: leases.Held, seal: Seal) -> dict[str, Any]:
    status, manifest = os.fstat(held.descriptor), manifest_path(held.image)
    kept = {"manifest": manifest.read_text() if manifest.exists() else None} if seal.told else {}
    return {"size": status.st_size, "times": [status.st_atime_ns, status.st_mtime_ns], "end": seal.end} | kept


def _pieces(descriptor: int, seal: Seal, changes: Changes) -> Iterator[Piece]:
    """What will change in the file system and before it, and all that lies behind it: the old hashes, above all."""
    for at, data in changes:
        if at < seal.end:
            length = min(len(data), seal.end - at)
            yield Piece(at, os.pread(descriptor, length, at), data[:length])
    for start, stop in written(descriptor, os.fstat(descriptor).st_size, seal.end):
        for at in range(start, stop, _PART):
            yield Piece(at, os.pread(descriptor, min(_PART, stop - at), at))


def _write(held: leases.Held, new: Geometry, seal: Seal, changes: Changes) -> str:
    """Change the image.

    Returns:
        The new manifest; empty when there is none.
    """
    held.check()
    os.ftruncate(held.descriptor, seal.end)
    os.ftruncate(held.descriptor, new.total)
    for at, data in changes:
        held.check()
        roll_back.write(held.descriptor, data, at)
    made = seal.tree(held.descriptor, new, changes)
    if made:
        roll_back.write(held.descriptor, made[1], new.hash_start)
        changes = [*changes, (new.hash_start, made[1])]
    manifest = seal.manifest(held.descriptor, made[0] if made else None, changes) if seal.told else ""
    held.check()
    return manifest


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) != 2:
        sys.exit(__doc__)
    # Ctrl-C ends it so: then it goes back while nobody else can open the image.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    image = Path(words[0])
    try:
        grow(image, json.loads(Path(words[1]).read_text()))
    except (VmtoolError, OSError) as error:
        sys.exit(roll_back.told(image, error))


if __name__ == "__main__":
    main(sys.argv[1:])
