"""Growing an image in its place: what changes is worked out before, the way back is saved, and then it is written.

    python -m vmtool.host.grow IMAGE ORDER RESIZE2FS...

ORDER is a file with {"old", "new": geometries, "verity": root hash, salt and blocks or null, "manifest": the file that
tells of the image, or "", "beside": the manifest that lies beside it}. The image is left grown, with its way back
beside it (see `wayback`), and its new manifest as BESIDE.vmtool-new.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vmtool.errors import Refused, VmtoolError
from vmtool.facts.ext4groups import read_books
from vmtool.facts.imagefile import way_back
from vmtool.host import files, twin, wayback
from vmtool.rootfs.digest import PIECE, content, piece_digest, piece_digests
from vmtool.rootfs.geometry import Geometry, headers
from vmtool.rootfs.verity import BLOCK, DIGEST, Verity, leaves, lowest_level, tree_blocks, tree_over

# (place in the file, bytes), in no order.
Changes = list[tuple[int, bytes]]


def grow(image: Path, order: dict[str, Any], resize2fs: Sequence[str]) -> None:
    """See the module's docstring.

    Raises:
        VmtoolError: it cannot be grown so; nothing was changed.
    """
    old, new = Geometry(**order["old"]), Geometry(**order["new"])
    second = image.with_name(f".{image.name}.vmtool-twin")
    if way_back(image).exists():
        raise Refused(f"{image}: growing it was interrupted", hint="vmtool recover")
    descriptor = os.open(image, os.O_RDWR)
    try:
        wayback.be_alone(image, descriptor)
        books = read_books(twin.reader(descriptor, old.start))
        end = old.start + books.count * books.block_size
        changes = [(new.start + at, data) for at, data in twin.grow(descriptor, new.start, new.size, second, resize2fs)]
        changes += [(at, data) for at, data in headers(new).items() if os.pread(descriptor, len(data), at) != data]
        known = _old_leaves(descriptor, old, Verity(**order["verity"])) if order["verity"] else b""
        told = json.loads(Path(order["manifest"]).read_text()) if order["manifest"] else {}
        pieces = _old_pieces(descriptor, told, changes, end) if told else {}
        tail = twin.written(descriptor, os.fstat(descriptor).st_size, end)
        wayback.save(image, descriptor, [
            *((at, min(len(data), end - at)) for at, data in changes if at < end),
            *((at, stop - at) for at, stop in tail)], [Path(order["beside"])] if order["manifest"] else [])
        # Whatever lies behind the file system goes: the old hashes, above all.
        os.ftruncate(descriptor, end)
        os.ftruncate(descriptor, new.total)
        for at, data in changes:
            wayback.write(descriptor, data, at)
        verity = None
        if order["verity"]:
            verity, tree = _hash(descriptor, new, known[:(end - new.start) // BLOCK * DIGEST], order["verity"], changes)
            wayback.write(descriptor, tree, new.hash_start)
            changes.append((new.hash_start, tree))
        os.fsync(descriptor)
        if told:
            beside = Path(order["beside"])
            files.write(beside.with_name(f".{beside.name}.vmtool-new"), json.dumps(
                _seal(descriptor, told, pieces, verity, changes, end), indent=1) + "\n", mode=0o644)
    finally:
        second.unlink(missing_ok=True)
        os.close(descriptor)


def _old_leaves(descriptor: int, old: Geometry, told: Verity) -> bytes:
    """The hashes of the data as the image has them: they must be those that the root hash is of.

    What was not changed here is not hashed anew, so a change that somebody made before stays one.
    """
    tree = os.pread(descriptor, tree_blocks(told.data_blocks) * BLOCK, old.hash_start)
    lowest = lowest_level(tree, told.data_blocks)
    if tree_over(lowest, bytes.fromhex(told.salt))[0] != told.root_hash:
        raise Refused("the dm-verity hashes in the image are not those of the manifest's root hash",
                      hint="vmtool rootfs verify IMAGE tells more; with --copy, resize hashes everything anew")
    return lowest


def _hash(descriptor: int, new: Geometry, known: bytes, told: dict[str, Any], changes: Changes) -> tuple[Verity, bytes]:
    """The new tree: from hashes that are known, those of zeros, and those of what was changed."""
    salt, blocks = bytes.fromhex(told["salt"]), new.size // BLOCK
    lowest = bytearray(known + leaves([blocks - len(known) // DIGEST], salt))
    first = {len(known) // DIGEST}                     # in it the file system ends, when its blocks are smaller
    for number in first.union(*(_numbers(at - new.start, len(data), BLOCK) for at, data in changes)):
        if 0 <= number < blocks:
            block = os.pread(descriptor, BLOCK, new.start + number * BLOCK)
            lowest[number * DIGEST:(number + 1) * DIGEST] = leaves([block], salt)
    root, tree = tree_over(bytes(lowest), salt)
    return Verity(root, told["salt"], blocks), tree


def _old_pieces(descriptor: int, told: dict[str, Any], changes: Changes, end: int) -> dict[int, str]:
    """The digests of the pieces that stay as they are; empty when the manifest has none.

    A piece in which something changes gets a new digest, so it must be what the manifest says before.
    """
    pieces = {int(at): one for at, one in told.get("pieces", {}).items()}
    if not pieces or content(told["size"], pieces) != told["content"] or told["size"] != os.fstat(descriptor).st_size:
        return {}
    for number in _touched(changes, end):
        if number * PIECE < told["size"] and piece_digest(descriptor, number) != pieces.pop(number, ""):
            raise Refused(f"bytes {number * PIECE} to {(number + 1) * PIECE} are not what the manifest says",
                          hint="vmtool rootfs verify IMAGE tells more; with --copy, resize takes them as they are")
    return {number: one for number, one in pieces.items() if number < end // PIECE}


def _seal(descriptor: int, told: dict[str, Any], pieces: dict[int, str], verity: Verity | None, changes: Changes,
          end: int) -> dict[str, Any]:
    """The manifest of what the image has become. It has no sha256: hashing gigabytes of holes takes too long."""
    size = os.fstat(descriptor).st_size
    if pieces:
        new = ((number, piece_digest(descriptor, number)) for number in _touched(changes, end))
        pieces = dict(sorted((pieces | {number: one for number, one in new if one}).items()))
    else:
        pieces = piece_digests(descriptor)
    return told | {"sha256": None, "size": size, "content": content(size, pieces),
                   "pieces": {str(number): one for number, one in pieces.items()},
                   "verity": {**asdict(verity), "kernel_verity_params": verity.kernel_params} if verity else None}


def _touched(changes: Changes, end: int) -> set[int]:
    """Pieces with a change in them, and the one in which the file system ended: what lay behind it goes."""
    return {end // PIECE}.union(*(_numbers(at, len(data), PIECE) for at, data in changes))


def _numbers(at: int, length: int, grain: int) -> Iterable[int]:
    return range(at // grain, -(-(at + length) // grain))


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) < 3:
        sys.exit(__doc__)
    try:
        grow(Path(words[0]), json.loads(Path(words[1]).read_text()), words[2:])
    except VmtoolError as error:
        sys.exit("\n".join([*error.details, error.message, *([f"hint: {error.hint}"] if error.hint else [])]))


if __name__ == "__main__":
    main(sys.argv[1:])
