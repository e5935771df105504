"""What a model's directory has, and how far its encryption is: facts of `vmtool model encrypt`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vmtool.facts.memory import read_disk
from vmtool.frozen import dataclass
from vmtool.host.files import TEMPORARY
from vmtool.machine import Reader
from vmtool.models.encryption.progress import Done, SourceFile, SourceState, done_path, new_path, read_done
from vmtool.models.encryption.source_facts import difference
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import names_in
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import NAME, foreign_names
from vmtool.serving.cryptotensors.reader import opened


@dataclass(frozen=True)
class EncryptionFacts:
    """What there is.

    Args:
        files: of the source, in the order of their names; None when it is no directory.
        foreign: names in the target that are neither the model's nor vmtool's.
        signed: the target has a manifest, so what is in it is done.
        free: bytes free where the target comes.
        overlaps: one directory is the other, or in it: what is encrypted would take the place of its source.
        other: how the signed model is another one than the source's, and in which file.
        leftover: what an end after the signature left beside the files.
        blocked: what is in the place of the target or of a directory above it, and is no directory; None for nothing.
    """

    files: tuple[SourceFile, ...] | None
    foreign: tuple[str, ...]
    signed: bool
    free: int | None
    overlaps: bool = False
    other: str = ""
    leftover: tuple[str, ...] = ()
    blocked: Path | None = None


def read_encryption(reader: Reader, source: Path, target: Path, master: MasterKey, signer: Signer) -> EncryptionFacts:
    """Look at both directories. What was made with another key of the same name is not done."""
    try:
        names = [entry for entry in names_in(source) if not entry.startswith(".")]
    except OSError:
        return EncryptionFacts(None, (), False, None)
    files = tuple(_file(source, name, target, master, signer) for name in names if name != NAME)
    there = foreign_names(target, (each.name for each in files)) if target.is_dir() else []
    leftover = tuple(name for name in there if _is_left(name, files))
    signed, overlaps = os.path.lexists(target / NAME), _overlap(source, target)
    other = difference(target, files, master, signer) if signed and not overlaps else ""
    return EncryptionFacts(files, tuple(name for name in there if name not in leftover), signed,
                           read_disk(reader, str(target)).free, overlaps, other, leftover, _blocked(target))


def _blocked(target: Path) -> Path | None:
    there = next((path for path in (target, *target.parents) if os.path.lexists(path)), None)
    return there if there and not there.is_dir() else None


def _is_left(name: str, files: tuple[SourceFile, ...]) -> bool:
    """Whether an encryption of this model that ended somewhere left it: notes, and what was being written."""
    notes = {done_path(Path(each.name)).name for each in files}
    written = TEMPORARY.fullmatch(name)
    return name in notes or name in {new_path(Path(each.name)).name for each in files} or bool(
        written and written[1] in {NAME, *notes})


def _overlap(source: Path, target: Path) -> bool:
    one, other = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    return one.is_relative_to(other) or other.is_relative_to(one)


def _file(source: Path, name: str, target: Path, master: MasterKey, signer: Signer) -> SourceFile:
    path = Path(os.path.realpath(source / name))
    # models--OWNER--NAME/snapshots/REVISION/config.json -> ../../blobs/DIGEST
    top = source.parent.parent if source.parent.name == "snapshots" else source
    try:
        status = os.stat(path)
    except OSError:
        return SourceFile(name, path, False, False, None, None)
    outside = not path.is_relative_to(os.path.realpath(top))
    return SourceFile(name, path, stat.S_ISREG(status.st_mode), outside, SourceState.of(status),
                      _done(target / name, master, signer))


def _done(path: Path, master: MasterKey, signer: Signer) -> Done | None:
    done = read_done(path)
    return done if done and (not done.entry.encrypted or _opens(path, master, signer)) else None


def _opens(path: Path, master: MasterKey, signer: Signer) -> bool:
    """Whether the very key opens it: two keys may have one name, or none."""
    try:
        with opened(path, signer) as file:
            file.open_keys(master)
        return True
    except (Untrusted, OSError):
        return False
