"""Digests of image files, which are mostly holes: neither reads them, and one does not even count them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vmtool.foreign import open_file
from vmtool.rootfs.format.sparse import next_data, written

PIECE = 1 << 20
_ZEROS = bytes(PIECE)


def sha256(path: Path) -> str:
    """SHA-256 of every byte, as sha256sum gives it; two gigabytes of holes take about a second."""
    total = hashlib.sha256()
    with open_file(path) as file:
        for piece in _pieces(file.fileno()):
            total.update(piece if isinstance(piece, bytes) else memoryview(_ZEROS)[:piece])
    return total.hexdigest()


def content_digest(path: Path) -> str:
    """A digest in which stretches of zeros count by their place only: as strong, and quick for a large sparse file."""
    with open_file(path) as file:
        return content(os.fstat(file.fileno()).st_size, piece_digests(file.fileno()))


def content(size: int, pieces: Mapping[int, str]) -> str:
    """The content digest of a file of `size` bytes with these pieces; the others are all zeros.

    SHA-256 over the size and, in order, each piece's number and SHA-256; numbers have 8 bytes, the most significant
    first.
    """
    total = hashlib.sha256(size.to_bytes(8))
    for number, digest in sorted(pieces.items()):
        total.update(number.to_bytes(8) + bytes.fromhex(digest))
    return total.hexdigest()


def read_content(path: Path) -> dict[str, Any]:
    """What a manifest says of an image's bytes: its `size`, `content` and `pieces`."""
    with open_file(path) as file:
        size, pieces = os.fstat(file.fileno()).st_size, piece_digests(file.fileno())
    return {"size": size, "content": content(size, pieces), "pieces": pieces}


def piece_digests(descriptor: int) -> dict[int, str]:
    """SHA-256 of each 1 MiB piece that is not all zeros, by its number; the last piece may be shorter."""
    return {number: digest for number, piece in enumerate(_pieces(descriptor)) if (digest := _digest(piece))}


def piece_digest(descriptor: int, number: int) -> str:
    """SHA-256 of one piece; empty when it is all zeros."""
    start = number * PIECE
    end = min(start + PIECE, os.fstat(descriptor).st_size)
    data = bytearray(max(0, end - start))
    for at, hole in written(descriptor, end, start):
        os.preadv(descriptor, [memoryview(data)[at - start:hole - start]], at)
    return _digest(bytes(data))


def _digest(piece: bytes | int) -> str:
    if isinstance(piece, int) or piece == _ZEROS[:len(piece)]:
        return ""
    return hashlib.sha256(piece).hexdigest()


def _pieces(descriptor: int) -> Iterator[bytes | int]:
    """The file in pieces (the last may be shorter): its bytes, or the length of one that is a hole."""
    size, at, data = os.fstat(descriptor).st_size, 0, 0
    while at < size:
        length = min(PIECE, size - at)
        if data <= at:
            data = next_data(descriptor, at, size)
        if data >= at + length:
            yield length
        else:
            piece = b""
            while len(piece) < length and (more := os.pread(descriptor, length - len(piece), at + len(piece))):
                piece += more
            yield piece.ljust(length, b"\0")           # the file was cut short since then
        at += length
