"""Undoing a change to an image in its place, byte for byte: a worker.

While there is an undo file (see `undofile`) the image is of no use (`ImageFile.problem`); removing it is what makes a
change good. Going back may be interrupted too, and started again.
"""

from __future__ import annotations

import os
from pathlib import Path

from vmtool.errors import Refused, shell_word, system_error
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.host import files, leases, safe_open
from vmtool.machine import Host
from vmtool.rootfs.format.image_file import manifest_path
from vmtool.rootfs.grow.undo_file import Piece, Undo, find, unfinished
from vmtool.rootfs.metadata.manifest import LARGEST

# What a disk writes whole.
_SECTOR = 512


@dataclass(frozen=True)
class Order:
    """The image; without an undo file beside it nothing is done."""

    image: Path


def run(order: Order, host: Host) -> None:
    """Do it.

    Raises:
        VmtoolError: see `restore`; or the system failed.
    """
    try:
        restore(order.image)
    except OSError as error:
        raise system_error(error, str(order.image)) from error


def restore(image: Path) -> None:
    """Bring the image and its manifest back, and remove the undo file.

    Raises:
        Refused: somebody else has changed the image, or another has its place now; no byte of it is changed.
        NotReady: it is in use.
    """
    unfinished(image).unlink(missing_ok=True)
    with find(image) as undo:
        if not undo:
            return
        try:
            with leases.alone(image) as held:
                go_back(held, undo)
        except FileNotFoundError as error:
            raise Refused(f"{image}: growing it was interrupted, and it is not there any more",
                          hint=f"put it back; if it shall be gone: rm {shell_word(undo.path)}") from error


def go_back(held: leases.Held, undo: Undo) -> None:
    """See `restore`."""
    head, descriptor = undo.head(), held.descriptor
    if not all(_is_between(piece, os.pread(descriptor, len(piece.old), piece.at)) for piece in undo.pieces()):
        raise Refused(f"{held.image} is not the file that was being grown any more, or was changed since",
                      hint=f"if it is as you want it: rm {shell_word(undo.path)}")
    if os.fstat(descriptor).st_size != head["size"] or any(_differs(descriptor, piece) for piece in undo.pieces()):
        # What was written behind the file system goes.
        os.ftruncate(descriptor, min(head["end"], head["size"]))
        os.ftruncate(descriptor, head["size"])
    for piece in undo.pieces():
        # Zeros that are a hole stay one: on a full disk there is no room for others.
        if _differs(descriptor, piece):
            files.write_at(descriptor, piece.old, piece.at)
    # By size and time a build knows what it has given out.
    os.utime(descriptor, ns=tuple(head["times"]))
    os.fsync(descriptor)
    if "manifest" in head:
        _bring_back(manifest_path(held.image), head["manifest"])
    undo.remove()


def _is_between(piece: Piece, now: bytes) -> bool:
    """Whether every sector is what it was or what it should become; a power cut leaves any mixture of the two."""
    return not piece.new or now in (piece.old, piece.new) or all(
        now[at:at + _SECTOR] in (piece.old[at:at + _SECTOR], piece.new[at:at + _SECTOR])
        for at in range(0, len(piece.old), _SECTOR))


def _differs(descriptor: int, piece: Piece) -> bool:
    return os.pread(descriptor, len(piece.old), piece.at) != piece.old


def _bring_back(manifest: Path, text: str | None) -> None:
    if text is None:
        manifest.unlink(missing_ok=True)
    elif not manifest.exists() or read_regular(manifest, LARGEST) != text.encode():
        safe_open.rewrite(manifest, text)
