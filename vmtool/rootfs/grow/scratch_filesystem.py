"""Growing an ext4 in a scratch copy: a sparse file with its metadata and
none of its data, so that the image stays as it is.
The scratch copy has no name that anybody could put another file in the place of, and is gone with the process.

resize2fs reads and writes nothing else as long as no block has to move (`Superblock.largest`), so what it changed in
the scratch copy is what must change in the image, and every byte of it is known before the first one is written
there. That nothing else was touched is not taken on trust: a change to a block that is neither its own nor was free
is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from vmtool.errors import Refused, shell_word
from vmtool.host.files import write_at
from vmtool.machine import Host, check
from vmtool.rootfs.format.block_groups import FilesystemMetadata, Read, read_metadata
from vmtool.rootfs.format.sparse import written

# Blocks that are read at a time.
LONGEST = 256
# What resize2fs says of a disk without room for the scratch copy.
_FULL = ("No space left", "short write")
_HINT = "vmtool rootfs resize --copy grows a copy"
# Zeros are written and not punched, and new inode tables stay as they are until the guest's kernel clears them, as
# with resize2fs on a kernel that knows ext4.
ENVIRONMENT = (("UNIX_IO_NOZEROOUT", "1"), ("RESIZE2FS_FORCE_LAZY_ITABLE_INIT", "1"))


def reader(descriptor: int, start: int) -> Read:
    """Reads bytes of the file system that starts there; behind the end of the file are zeros."""
    def read(at: int, length: int) -> bytes:
        return os.pread(descriptor, length, start + at).ljust(length, b"\0")
    return read


def grow(host: Host, image: int, start: int, size: int, directory: Path,
         resize2fs: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    """Yield (place, bytes) for everything in [0, `size`) of the file system that growing to `size` changes.

    Args:
        image: open; the file system starts at byte `start` of it, and what lies behind it counts as zeros.
        size: in bytes.
        directory: where there is room for the scratch copy.
        resize2fs: how it is called.

    Raises:
        Refused: it would change blocks that are in use.
        ProgramFailed: resize2fs did not like the file system.
    """
    old = reader(image, start)
    with tempfile.TemporaryFile(dir=directory, buffering=0) as scratch:
        place = scratch.fileno()
        metadata = read_metadata(old)
        for blocks in metadata.kept():
            at, length = blocks.start * metadata.block_size, len(blocks) * metadata.block_size
            write_at(place, old(at, length), at)
        os.ftruncate(place, size)
        # Its own look, whether the file system was checked lately, is `-f`'s: the image is checked after.
        argv = (*resize2fs, "-f", f"/proc/{os.getpid()}/fd/{place}", f"{size // 1024}K")
        result = host.execute(argv, deadline=3600, env=ENVIRONMENT)
        full = any(text in result.err for text in _FULL)
        check(argv, result, f"make room there: df -h {shell_word(directory)}" if full else _HINT)

        def is_hole(at: int, length: int) -> bool:
            return not any(written(image, start + at + length, start + at))

        yield from _compare(metadata, old, reader(place, 0), written(place, size), is_hole)


def _compare(metadata: FilesystemMetadata, old: Read, new: Read, written: Iterable[tuple[int, int]],
             is_hole: Callable[[int, int], bool]) -> Iterator[tuple[int, bytes]]:
    """The changes.

    Args:
        written: (start, end) in bytes of what is no hole in the scratch copy.
        is_hole: whether so many bytes of the image are one.
    """
    size = metadata.block_size
    kept, fresh = {number for blocks in metadata.kept() for number in blocks}, _newly_used(metadata, old, new)
    mine = kept | fresh
    asked = kept.union(*(range(start // size, -(-end // size)) for start, end in written))
    # What is a hole in both needs no look.
    asked.update(*(blocks for blocks in _stretches(sorted(fresh - asked))
                   if not is_hole(blocks.start * size, len(blocks) * size)))
    changed, zeros = [], bytes(size)
    for blocks in _stretches(sorted(asked)):
        before, after = (read(blocks.start * size, len(blocks) * size) for read in (old, new))
        for at, number in zip(range(0, len(after), size), blocks, strict=True):
            block = after[at:at + size]
            # Behind the old end are zeros already.
            if block == (before[at:at + size] if number in mine and number < metadata.count else zeros):
                continue
            if number < metadata.count and number not in mine:
                raise Refused(f"resize2fs would change block {number}, which is not its own", hint=_HINT)
            changed.append(number)
    for blocks in _stretches(changed):
        yield blocks.start * size, new(blocks.start * size, len(blocks) * size)


def _newly_used(metadata: FilesystemMetadata, old: Read, new: Read) -> set[int]:
    """Blocks that were free: what was deleted in them must not be taken for an inode table."""
    grown, found = read_metadata(new), set()
    for number in range(len(metadata.groups)):
        bits = grown.used(number, new) & ~metadata.used(number, old)
        start = metadata.first + number * metadata.per_group
        while bits:
            low = bits & -bits
            block = start + low.bit_length() - 1
            if block < metadata.count:
                found.add(block)
            bits ^= low
    return found


def _stretches(numbers: Sequence[int]) -> Iterator[range]:
    """Ranges of neighbours, none longer than LONGEST."""
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1 and end - at + 1 < LONGEST:
            end += 1
        yield range(numbers[at], numbers[end] + 1)
        at = end + 1
