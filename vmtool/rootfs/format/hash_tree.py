"""dm-verity's hash tree over a piece of a file (Linux, Documentation/admin-guide/device-mapper/verity.rst).

Written here because veritysetup cannot start in the middle of a file, and a loop device is what vmtool avoids; a test
holds the two against each other. Format 1, SHA-256, salt before the block, 4 KiB blocks, no superblock: as Kata's
osbuilder makes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from vmtool.frozen import dataclass
from vmtool.rootfs.format.sparse import next_data

BLOCK = 4096
DIGEST = 32
PER_BLOCK = BLOCK // DIGEST
_PIECE = 1 << 20


@dataclass(frozen=True)
class Verity:
    """What a kernel needs to open the root file system: hexadecimal texts, and the number of data blocks."""

    root_hash: str
    salt: str
    data_blocks: int

    @property
    def kernel_params(self) -> str:
        """The value of Kata's `kernel_verity_params`."""
        return (f"root_hash={self.root_hash},salt={self.salt},data_blocks={self.data_blocks},"
                f"data_block_size={BLOCK},hash_block_size={BLOCK}")


def level_blocks(data_blocks: int) -> list[int]:
    """How many hash blocks each level has, from the one over the data to the one block at the top."""
    levels = [-(-data_blocks // PER_BLOCK)]
    while levels[-1] > 1:
        levels.append(-(-levels[-1] // PER_BLOCK))
    return levels


def tree_blocks(data_blocks: int) -> int:
    """How many blocks the whole tree has."""
    return sum(level_blocks(data_blocks))


def hash_tree(descriptor: int, start: int, size: int, salt: bytes) -> tuple[str, bytes]:
    """The root hash in hexadecimal, and the tree as it lies on disk: the top level first.

    Memory: 1/127 of `size`.

    Args:
        start, size: the piece of the file in bytes; the size is a multiple of 4096.
    """
    return tree_over(leaves(_runs(descriptor, start, size), salt), salt)


def tree_over(lowest: bytes, salt: bytes) -> tuple[str, bytes]:
    """The root hash and the tree, as `hash_tree` gives them, over the hashes of the data."""
    levels = [_padded(lowest)]
    while len(levels[-1]) > BLOCK:
        levels.append(_padded(leaves([levels[-1]], salt)))
    root = hashlib.sha256(salt + levels[-1]).hexdigest()
    return root, b"".join(reversed(levels))


def lowest_level(tree: bytes, data_blocks: int) -> bytes:
    """The hashes of the data, out of a tree."""
    levels = level_blocks(data_blocks)
    start = sum(levels[1:]) * BLOCK
    return tree[start:start + data_blocks * DIGEST]


def leaves(runs: Iterable[bytes | int], salt: bytes) -> bytes:
    """The hash of each block; a number stands for so many blocks of zeros, bytes are whole blocks."""
    salted, digests = hashlib.sha256(salt), bytearray()
    # In the upper levels of a large sparse image most blocks are alike.
    last, of_last = bytes(BLOCK), hashlib.sha256(salt + bytes(BLOCK)).digest()
    of_zeros = of_last
    for run in runs:
        if isinstance(run, int):
            digests += of_zeros * run
            continue
        for place in range(0, len(run), BLOCK):
            block = run[place:place + BLOCK]
            if block != last:
                one = salted.copy()
                one.update(block)
                last, of_last = block, one.digest()
            digests += of_last
    return bytes(digests)


def _runs(descriptor: int, start: int, size: int) -> Iterator[bytes | int]:
    """The data in pieces of whole blocks, or the number of blocks in a hole, which is not read."""
    at, end = start, start + size
    while at < end:
        data = next_data(descriptor, at, end)
        # A hole ends at a block of the host's file system, which need not be one of ours.
        if blocks := (data - at) // BLOCK:
            yield blocks
        at += blocks * BLOCK
        piece = os.pread(descriptor, min(_PIECE, end - at), at) if at < end else b""
        if not piece and at < end:
            raise EOFError(f"the file ends at byte {at}, {end} were expected")
        whole = len(piece) // BLOCK * BLOCK or len(piece)
        if whole:
            yield _padded(piece[:whole])
        at += whole


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
