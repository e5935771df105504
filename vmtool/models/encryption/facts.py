"""What a model's directory has, and how far its encryption is: facts of `vmtool model encrypt`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vmtool.errors import Refused
from vmtool.facts.memory import read_disk
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.models.encryption.progress import Done, SourceState, read_done
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import names_in
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import MAX_MANIFEST, NAME, foreign_names, read_manifest
from vmtool.serving.cryptotensors.reader import opened


@dataclass(frozen=True)
class SourceFile:
    """A file of the model.

    Args:
        path: where its bytes are: what a link of the Hugging Face cache points to.
        outside: a link that leads out of the model's own cache or directory.
        done: what was made of it, if that is still there.
    """

    name: str
    path: Path
    regular: bool
    outside: bool
    state: SourceState | None
    done: Done | None


@dataclass(frozen=True)
class EncryptionFacts:
    """What there is.

    Args:
        files: of the source, in the order of their names; None when it is no directory.
        foreign: names in the target that are neither the model's nor vmtool's.
        whole: the target has a manifest that the signer signed, it names the files that are there, and the key opens
            them.
        free: bytes free where the target comes.
        overlaps: one directory is the other, or in it: what is encrypted would take the place of its source.
    """

    files: tuple[SourceFile, ...] | None
    foreign: tuple[str, ...]
    whole: bool
    free: int | None
    overlaps: bool = False


def read_encryption(reader: Reader, source: Path, target: Path, master: MasterKey, signer: Signer) -> EncryptionFacts:
    """Look at both directories. What was made with another key of the same name is not done."""
    try:
        names = [entry for entry in names_in(source) if not entry.startswith(".")]
    except OSError:
        return EncryptionFacts(None, (), False, None)
    files = tuple(_file(source, name, target, master, signer) for name in names if name != NAME)
    there = foreign_names(target, (each.name for each in files)) if target.is_dir() else []
    foreign = tuple(name for name in there if not name.endswith((".vmtool-done", ".vmtool-new")))
    return EncryptionFacts(files, foreign, _whole(target, {each.name for each in files}, master, signer),
                           read_disk(reader, str(target)).free, _overlap(source, target))


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


def _whole(target: Path, names: set[str], master: MasterKey, signer: Signer) -> bool:
    try:
        manifest = read_manifest(read_regular(target / NAME, MAX_MANIFEST), signer)
        return {each.name for each in manifest.files} == names and all(
            os.lstat(target / each.name).st_size == each.size and (
                not each.encrypted or _opens(target / each.name, master, signer)) for each in manifest.files)
    except (OSError, ValueError, Refused):
        return False
