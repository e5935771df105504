"""The dm-verity hashes and the manifest of a grown image, from the old ones wherever nothing changes.

What is not changed here is neither read nor hashed again, so a change that somebody made to the image before stays one;
and what is changed must have been what manifest and root hash say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.rootfs.format.digest import PIECE, content, piece_digest, piece_digests
from vmtool.rootfs.format.hash_tree import BLOCK, DIGEST, Verity, leaves, lowest_level, tree_blocks, tree_over
from vmtool.rootfs.format.layout import Geometry

# (place in the file, bytes), in no order.
Changes = list[tuple[int, bytes]]
_SHOWS_MORE = "vmtool rootfs verify IMAGE shows more; with --copy, resize takes the image as it is"


@dataclass(frozen=True)
class PreservedHashes:
    """What stays valid of an image that is about to be changed.

    Args:
        end: byte of the file where the file system ends.
        verity: as the manifest has it; None without hashes.
        leaves: hashes of the file system's whole blocks, as they are before.
        values: the manifest; empty when there is none.
        pieces: digests of those that nothing touches.
    """

    end: int
    verity: Verity | None
    leaves: bytes
    values: dict[str, Any]
    pieces: dict[int, str]

    def tree(self, descriptor: int, new: Geometry, changes: Changes) -> tuple[Verity, bytes] | None:
        """The new hashes, when there were some: those that are known, those of zeros, and those of what was changed."""
        if not self.verity:
            return None
        salt, blocks, known = bytes.fromhex(self.verity.salt), new.size // BLOCK, len(self.leaves) // DIGEST
        lowest = bytearray(self.leaves + leaves([blocks - known], salt))
        first = {known}                                # in it the file system ends, when its blocks are smaller
        for number in first.union(*(_numbers(at - new.start, len(data), BLOCK) for at, data in changes)):
            if 0 <= number < blocks:
                block = os.pread(descriptor, BLOCK, new.start + number * BLOCK)
                lowest[number * DIGEST:(number + 1) * DIGEST] = leaves([block], salt)
        root, tree = tree_over(bytes(lowest), salt)
        return Verity(root, self.verity.salt, blocks), tree

    def manifest(self, descriptor: int, verity: Verity | None, changes: Changes) -> str:
        """The text of the new one. It has no sha256: hashing gigabytes of holes takes too long."""
        size = os.fstat(descriptor).st_size
        new = ((number, piece_digest(descriptor, number)) for number in _touched(changes, self.end))
        pieces = dict(sorted((self.pieces | {number: one for number, one in new if one}).items()))
        return json.dumps(self.values | {
            "sha256": None, "size": size, "content": content(size, pieces),
            "pieces": {str(number): one for number, one in pieces.items()},
            "verity": {**asdict(verity), "kernel_verity_params": verity.kernel_params} if verity else None,
        }, indent=1) + "\n"


def read_preserved_hashes(descriptor: int, old: Geometry, end: int, verity: Verity | None, values: dict[str, Any],
              changes: Changes) -> PreservedHashes:
    """Look at what there is, before anything is changed.

    Args:
        values: the manifest; empty when there is none.

    Raises:
        Refused: what will be changed is not what manifest and root hash say.
    """
    known = _leaves(descriptor, old, verity)[:(end - old.start) // BLOCK * DIGEST] if verity else b""
    if len(known) < (end - old.start) // BLOCK * DIGEST and verity:
        raise Refused("the manifest's dm-verity hashes are not of the whole file system", hint=_SHOWS_MORE)
    return PreservedHashes(end, verity, known, values, _pieces(descriptor, values, changes, end) if values else {})


def _leaves(descriptor: int, old: Geometry, values: Verity) -> bytes:
    """The hashes of the data as the image has them: they must be those that the root hash is of."""
    size = tree_blocks(values.data_blocks) * BLOCK
    tree = os.pread(descriptor, size, old.hash_start) if size <= old.hash_size else b""
    lowest = lowest_level(tree, values.data_blocks)
    if not tree or tree_over(lowest, bytes.fromhex(values.salt))[0] != values.root_hash:
        raise Refused("the dm-verity hashes in the image are not those of the manifest's root hash", hint=_SHOWS_MORE)
    return lowest


def _pieces(descriptor: int, values: dict[str, Any], changes: Changes, end: int) -> dict[int, str]:
    """The digests of the pieces that stay as they are; an old manifest has none, so then everything is read."""
    size = os.fstat(descriptor).st_size
    pieces = {int(at): one for at, one in values.get("pieces", {}).items()} or piece_digests(descriptor)
    if values["size"] != size or values["content"] != content(size, pieces):
        raise Refused(f"the image ({size} bytes) is not what the manifest says ({values['size']} bytes, content "
                      f"{values['content']})", hint=_SHOWS_MORE)
    for number in _touched(changes, end):
        if number * PIECE < size and piece_digest(descriptor, number) != pieces.pop(number, ""):
            raise Refused(f"bytes {number * PIECE} to {(number + 1) * PIECE} are not what the manifest says",
                          hint=_SHOWS_MORE)
    return {number: one for number, one in pieces.items() if number < end // PIECE}


def _touched(changes: Changes, end: int) -> set[int]:
    """Pieces with a change in them, and the one in which the file system ended: what lay behind it goes."""
    return {end // PIECE}.union(*(_numbers(at, len(data), PIECE) for at, data in changes))


def _numbers(at: int, length: int, grain: int) -> Iterable[int]:
    return range(at // grain, -(-(at + length) // grain))
