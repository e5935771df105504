"""The file beside an image that shows what the image was, whole and durable before the first byte of it changes.

It has one line of JSON, {"size", "times" and "end" of the image, "manifest" of old}; then pieces, each with a header
of three numbers (place, length of the old bytes, length of the new bytes), the old bytes and the new bytes; and the
SHA-256 of all that. New bytes are there for every piece of the file system: so a sector of the image that is neither
old nor new shows that somebody else has changed it.
Who works with the file has a lock on it, which the kernel takes away from a process that is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from vmtool.errors import NotReady, Refused, shell_word
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.host import files, locks, safe_open
from vmtool.rootfs.format.image_file import undo_file_path

_PIECE = struct.Struct("<QQQ")
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Piece:
    """Bytes of the image at a place. Without `new`, nothing is known of what they shall be."""

    at: int
    old: bytes
    new: bytes = b""


@dataclass(frozen=True)
class Undo:
    """An undo file that was found whole, and is locked."""

    path: Path
    stream: IO[bytes]

    def head(self) -> dict[str, Any]:
        """The first line."""
        self.stream.seek(0)
        found: dict[str, Any] = parse_json(self.stream.readline())
        return found

    def pieces(self) -> Iterator[Piece]:
        """One after the other, since together they may be large."""
        end = os.fstat(self.stream.fileno()).st_size - _DIGEST
        self.stream.seek(0)
        self.stream.readline()
        while self.stream.tell() < end:
            at, old, new = _PIECE.unpack(self.stream.read(_PIECE.size))
            yield Piece(at, self.stream.read(old), self.stream.read(new))

    def remove(self) -> None:
        """What was changed is good, or is changed back."""
        self.path.unlink()
        files.sync_directory(self.path.parent)


@contextlib.contextmanager
def create(image: Path, head: dict[str, Any], pieces: Iterable[Piece]) -> Iterator[Undo]:
    """Write it, and keep it locked."""
    path = undo_file_path(image)
    half, digest = unfinished(image), hashlib.sha256()
    with os.fdopen(safe_open.make(half), "w+b") as stream:
        try:
            _lock(stream, image)
            for part in _parts(head, pieces):
                stream.write(part)
                digest.update(part)
            stream.write(digest.digest())
            stream.flush()
            os.fsync(stream.fileno())
            half.rename(path)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        files.sync_directory(path.parent)
        yield Undo(path, stream)


def _lock(stream: IO[bytes], image: Path) -> None:
    if not locks.take(stream.fileno()):
        raise NotReady(f"another vmtool is growing {image}", hint="let it come to its end")


@contextlib.contextmanager
def find(image: Path) -> Iterator[Undo | None]:
    """Open and lock it; None when there is none.

    Raises:
        Refused: another user has put it there, or it is not whole.
        NotReady: another vmtool is at work with it.
    """
    path = undo_file_path(image)
    try:
        descriptor = safe_open.open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(descriptor, "rb") as stream:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise Refused(f"{path} belongs to another user, so nothing is changed by it",
                          hint=f"as that user: vmtool recover; if nobody was growing the image: rm {shell_word(path)}")
        _lock(stream, image)
        if not os.fstat(descriptor).st_nlink:
            yield None                                 # it came to its end while this waited for the lock
            return
        if not _is_whole(stream):
            raise Refused(f"{path} is not whole, so nothing is changed by it",
                          hint=f"look at the image: e2fsck -fn {shell_word(image)}; "
                               f"if it is as you want it: rm {shell_word(path)}")
        yield Undo(path, stream)


def unfinished(image: Path) -> Path:
    """Its name until it is whole."""
    path = undo_file_path(image)
    return path.with_name(f"{path.name}.new")


def _parts(head: dict[str, Any], pieces: Iterable[Piece]) -> Iterator[bytes]:
    yield json.dumps(head).encode() + b"\n"
    for piece in pieces:
        yield _PIECE.pack(piece.at, len(piece.old), len(piece.new))
        yield piece.old
        yield piece.new


def _is_whole(stream: IO[bytes]) -> bool:
    digest, left = hashlib.sha256(), os.fstat(stream.fileno()).st_size - _DIGEST
    while left > 0 and (part := stream.read(min(left, 1 << 20))):
        digest.update(part)
        left -= len(part)
    return left == 0 and stream.read() == digest.digest()
