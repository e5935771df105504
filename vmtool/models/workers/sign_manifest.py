"""Sign what became of every file: a worker. With the manifest the model is whole, and the notes on the way go."""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.host import files
from vmtool.machine import Host
from vmtool.models.encryption.keys import read_signer
from vmtool.models.encryption.progress import done_path, read_done
from vmtool.serving.cryptotensors.manifest import MAX_MANIFEST, NAME, ModelManifest, SignedFile, read_manifest


@dataclass(frozen=True)
class Order:
    """Which files of the directory it names.

    Args:
        like: the directory of a model of which this one is to be a copy but for its headers; None for none.
    """

    directory: Path
    names: tuple[str, ...]
    signer: Path
    like: Path | None = None


def run(order: Order, host: Host) -> None:
    """Write it.

    Raises:
        Refused: a file is not done, or another than the one it is to be like.
    """
    signer = read_signer(order.signer)
    entries = tuple(_entry(order.directory / name) for name in sorted(order.names))
    if order.like:
        _compare(entries, read_manifest(read_regular(order.like / NAME, MAX_MANIFEST), signer).files, order.like)
    files.write(order.directory / NAME, ModelManifest(signer.kid, entries).text(signer), mode=0o644)
    for name in order.names:
        done_path(order.directory / name).unlink(missing_ok=True)


def _compare(made: tuple[SignedFile, ...], before: tuple[SignedFile, ...], where: Path) -> None:
    """What was signed is signed again, and nothing else: a file may have been changed since."""
    kept = {(each.name, each.sha256, each.data_sha256) for each in before}
    for each in made:
        if (each.name, each.sha256, each.data_sha256) not in kept or len(made) != len(before):
            raise Refused(f"{where / each.name}: not the file that was signed",
                          hint="get the file again from the model's owner")


def _entry(path: Path) -> SignedFile:
    done = read_done(path)
    if done is None:
        raise Refused(f"{path}: not done, or changed since", hint="encrypt the model again: what is done stays")
    return done.entry
