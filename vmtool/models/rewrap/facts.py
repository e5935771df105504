"""Which key opens a model, and how far its rewrapping is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vmtool.errors import Refused, VmtoolError
from vmtool.facts.memory import read_disk
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.models.encryption.inspect import inspect_model, open_manifest
from vmtool.models.encryption.progress import Done, SourceState, read_done
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import OF_EXT4
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import ModelManifest, foreign_names
from vmtool.serving.cryptotensors.reader import opened


@dataclass(frozen=True)
class RewrapFile:
    """A file that the manifest has.

    Args:
        state: of the file; None when it is not there as a regular file.
        problem: why neither key opens it; empty for a file in clear.
        rewrapped: the new key opens it already.
        done: what was made of it before, if that is there and the new key opens it.
    """

    name: str
    encrypted: bool
    size: int
    state: SourceState | None
    problem: str
    rewrapped: bool
    done: Done | None


@dataclass(frozen=True)
class RewrapFacts:
    """What there is.

    Args:
        files: of the manifest; foreign: names beside them.
        leftover: there is a directory of an earlier try; signed: it is whole, and the new key opens it.
        mode, uid: of the model's directory.
        free: bytes free where the new files come; None when that is unknown.
        mounted: the directory is a file system of its own, so nothing can take its place.
    """

    files: tuple[RewrapFile, ...]
    foreign: tuple[str, ...]
    leftover: bool
    signed: bool
    mode: int
    uid: int
    free: int | None
    mounted: bool = False


def new_directory(directory: Path) -> Path:
    """Where the new files are until all are there: next to the model, so that the two can be swapped."""
    return directory.with_name(f".{directory.name}.vmtool-rewrap")


def read_rewrap(reader: Reader, directory: Path, keys: tuple[MasterKey, MasterKey], signer: Signer) -> RewrapFacts:
    """Look at the model and at what an earlier try left.

    Args:
        keys: the old one and the new one.

    Raises:
        Refused: it is no encrypted model.
        VerificationFailed: it is not of this signer.
    """
    manifest, new, status = open_manifest(directory, signer), new_directory(directory), directory.stat()
    files = tuple(_file(directory / each.name, each.encrypted, new / each.name, keys, signer)
                  for each in manifest.files)
    signed = _is_signed(new, manifest, keys[1], signer)
    foreign = (*foreign_names(directory, (each.name for each in files)), *_lost(directory))
    return RewrapFacts(files, foreign, new.is_dir(), signed, stat.S_IMODE(status.st_mode),
                       status.st_uid, read_disk(reader, str(directory.parent)).free, os.path.ismount(directory))


def _lost(directory: Path) -> list[str]:
    """What is in ext4's lost+found: it would go with the old model. Only root can look into it."""
    lost = directory / OF_EXT4
    try:
        return [f"{OF_EXT4}/{name}" for name in sorted(os.listdir(lost))] if lost.is_dir() else []
    except PermissionError:
        return [] if os.path.ismount(directory) else [OF_EXT4]


def _is_signed(new: Path, manifest: ModelManifest, key: MasterKey, signer: Signer) -> bool:
    """Whether the new directory has every file of the model, under the new key, and a manifest that says so."""
    try:
        found = open_manifest(new, signer)
    except (VmtoolError, OSError):
        return False
    kept, made = ([(each.name, each.sha256, each.data_sha256) for each in one.files] for one in (manifest, found))
    return kept == made and not any(
        finding.level == "fail" for finding in inspect_model(new, found, signer, data=False, master=None)) and not any(
        _problem(new / each.name, key, signer) for each in found.files if each.encrypted)


def _file(path: Path, encrypted: bool, new: Path, keys: tuple[MasterKey, MasterKey], signer: Signer) -> RewrapFile:
    try:
        status = path.lstat()
    except OSError:
        return RewrapFile(path.name, encrypted, 0, None, "", False, None)
    state = SourceState.of(status) if stat.S_ISREG(status.st_mode) else None
    problems = [_problem(path, key, signer) if encrypted else "" for key in keys]
    done = read_done(new)
    if done and (done.source != state or (encrypted and _problem(new, keys[1], signer))):
        done = None
    return RewrapFile(path.name, encrypted, status.st_size, state, problems[0] and problems[1] and problems[0],
                      encrypted and not problems[1], done)


def _problem(path: Path, key: MasterKey, signer: Signer) -> str:
    """Why a key does not open a file; its name alone says nothing of it."""
    try:
        with opened(path, signer) as file:
            file.open_keys(key)
    except (Untrusted, Refused, OSError) as error:
        return str(error)
    return ""
