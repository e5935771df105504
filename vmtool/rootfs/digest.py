"""Digests of image files, which are mostly holes: neither reads them, and one does not even count them.

    python -m vmtool.rootfs.digest sha256|content FILE
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PIECE = 1 << 20
_ZEROS = bytes(PIECE)


def sha256(path: Path) -> str:
    """SHA-256 of every byte, as sha256sum gives it; two gigabytes of holes take about a second."""
    total = hashlib.sha256()
    for piece in _pieces(path):
        total.update(piece if isinstance(piece, bytes) else memoryview(_ZEROS)[:piece])
    return total.hexdigest()


def content_digest(path: Path) -> str:
    """A digest in which stretches of zeros count by their place only: as strong, and quick for a large sparse file.

    SHA-256 over the size and, for each 1 MiB piece that is not all zeros, its place and its bytes.
    """
    size = path.stat().st_size
    total, at = hashlib.sha256(size.to_bytes(8)), 0
    for piece in _pieces(path):
        if isinstance(piece, bytes):
            if piece != _ZEROS[:len(piece)]:
                total.update(at.to_bytes(8) + piece)
            at += len(piece)
        else:
            at += piece
    return total.hexdigest()


def _pieces(path: Path) -> Iterator[bytes | int]:
    """The file in 1 MiB pieces (the last may be shorter): its bytes, or the length of one that is a hole."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size, at, data = os.fstat(descriptor).st_size, 0, 0
        while at < size:
            length = min(PIECE, size - at)
            if data <= at:
                data = _next_data(descriptor, at, size)
            if data >= at + length:
                yield length
            else:
                piece = b""
                while len(piece) < length and (more := os.pread(descriptor, length - len(piece), at + len(piece))):
                    piece += more
                yield piece.ljust(length, b"\0")       # the file was cut short meanwhile
            at += length
    finally:
        os.close(descriptor)


def _next_data(descriptor: int, at: int, size: int) -> int:
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError:                                    # ENXIO: a hole to the end
        return size


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    made = {"sha256": sha256, "content": content_digest}
    if len(words) != 2 or words[0] not in made:
        sys.exit(__doc__)
    try:
        print(made[words[0]](Path(words[1])))
    except OSError as error:
        sys.exit(f"{words[1]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
