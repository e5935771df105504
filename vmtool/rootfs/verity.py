"""dm-verity's hash tree over a piece of a file (Linux, Documentation/admin-guide/device-mapper/verity.rst).

Written here because veritysetup cannot start in the middle of a file, and a loop device is what vmtool avoids; a test
holds the two against each other. Format 1, SHA-256, salt before the block, 4 KiB blocks, no superblock: as Kata's
osbuilder makes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

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
    levels = [_padded(_hashes(_blocks(descriptor, start, size), salt))]
    while len(levels[-1]) > BLOCK:
        below = levels[-1]
        levels.append(_padded(_hashes((below[at:at + BLOCK] for at in range(0, len(below), BLOCK)), salt)))
    root = hashlib.sha256(salt + levels[-1]).hexdigest()
    return root, b"".join(reversed(levels))


def _blocks(descriptor: int, start: int, size: int) -> Iterator[bytes]:
    """The data, block by block; a hole is not read."""
    at, end, zeros = start, start + size, bytes(BLOCK)
    while at < end:
        try:
            data = min(os.lseek(descriptor, at, os.SEEK_DATA), end)
        except OSError:                                # ENXIO: a hole to the end
            data = end
        # A hole ends at a block of the host's file system, which need not be one of ours.
        for _ in range((data - at) // BLOCK):
            yield zeros
        at += (data - at) // BLOCK * BLOCK
        piece = os.pread(descriptor, min(_PIECE, end - at), at) if at < end else b""
        if not piece and at < end:
            raise EOFError(f"the file ends at byte {at}, {end} were expected")
        whole = len(piece) // BLOCK * BLOCK or len(piece)
        for place in range(0, whole, BLOCK):
            yield piece[place:place + BLOCK].ljust(BLOCK, b"\0")
        at += whole


def _hashes(blocks: Iterator[bytes], salt: bytes) -> bytes:
    salted = hashlib.sha256(salt)
    zeros, digests = bytes(BLOCK), bytearray()
    of_zeros = hashlib.sha256(salt + zeros).digest()
    for block in blocks:
        if block is zeros or block == zeros:
            digests += of_zeros
            continue
        one = salted.copy()
        one.update(block)
        digests += one.digest()
    return bytes(digests)


def _padded(digests: bytes) -> bytes:
    return digests + bytes(-len(digests) % BLOCK)
