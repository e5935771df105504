"""Sign what became of every file: a worker. With the manifest the model is whole, and the notes on the way go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmtool.errors import Refused
from vmtool.host import files
from vmtool.machine import Host
from vmtool.models.encryption.keys import read_signer
from vmtool.models.encryption.progress import done_path, read_done
from vmtool.serving.cryptotensors.manifest import NAME, ModelManifest, SignedFile


@dataclass(frozen=True)
class Order:
    """Which files of the directory it names."""

    directory: Path
    names: tuple[str, ...]
    signer: Path


def run(order: Order, host: Host) -> None:
    """Write it.

    Raises:
        Refused: a file is not done.
    """
    signer = read_signer(order.signer)
    entries = tuple(_entry(order.directory / name) for name in sorted(order.names))
    files.write(order.directory / NAME, ModelManifest(signer.kid, entries).text(signer), mode=0o644)
    for name in order.names:
        done_path(order.directory / name).unlink(missing_ok=True)


def _entry(path: Path) -> SignedFile:
    done = read_done(path)
    if done is None:
        raise Refused(f"{path}: not done, or changed since", hint="encrypt the model again: what is done stays")
    return done.entry
