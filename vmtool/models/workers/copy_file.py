"""Copy a file of a model that stays in clear, and hash it meanwhile: a worker."""

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
    """From where to where; `source` has no link on the last step to it."""

    source: Path
    target: Path


def run(order: Order, host: Host) -> None:
    """Copy it.

    Raises:
        Refused: the source is not a regular file.
    """
    new, digest, size = new_path(order.target), hashlib.sha256(), 0
    new.unlink(missing_ok=True)
    descriptor = open_regular(order.source, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as source, open(new, "xb") as out:
        before = SourceState.of(os.fstat(descriptor))
        while piece := source.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    os.rename(new, order.target)
    files.sync_directory(order.target.parent)
    write_done(order.target, Done(before, SignedFile(order.target.name, size, sha256=digest.hexdigest())))
