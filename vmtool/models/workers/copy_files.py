"""Copy the files of a model that stay in clear, and hash them meanwhile: a worker. It is one for all of them, since to
start it takes longer than to copy most of them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.host import files
from vmtool.host.safe_open import open_regular
from vmtool.machine import Host
from vmtool.models.encryption.progress import Done, SourceState, new_path, write_done
from vmtool.serving.cryptotensors.manifest import SignedFile

_PIECE = 1 << 20


@dataclass(frozen=True)
class Order:
    """From where to where; no source has a link on the last step to it."""

    sources: tuple[Path, ...]
    targets: tuple[Path, ...]


def run(order: Order, host: Host) -> None:
    """Copy them.

    Raises:
        Refused: a source is not a regular file.
    """
    for source, target in zip(order.sources, order.targets, strict=True):
        _copy(source, target)


def _copy(place: Path, target: Path) -> None:
    new, digest, size = new_path(target), hashlib.sha256(), 0
    new.unlink(missing_ok=True)
    descriptor = open_regular(place, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as source, open(new, "xb") as out:
        before = SourceState.of(os.fstat(descriptor))
        while piece := source.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    os.rename(new, target)
    files.sync_directory(target.parent)
    write_done(target, Done(before, SignedFile(target.name, size, sha256=digest.hexdigest())))
