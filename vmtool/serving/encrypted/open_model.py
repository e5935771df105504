"""Opening an encrypted model, before anything else reads it: signer, manifest, every header, every key, clear files.

It takes milliseconds, whatever the model's size. What the engine reads in clear (configuration, tokenizer) is copied
while it is checked: whoever shares the directory can change it later, and changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import open_regular
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer, strict_json
from vmtool.serving.cryptotensors.manifest import (
    MAX_MANIFEST,
    NAME,
    WEIGHTS,
    ModelManifest,
    SignedFile,
    foreign_names,
    is_clear,
    read_manifest,
)
from vmtool.serving.cryptotensors.reader import opened
from vmtool.serving.encrypted.bundle import Bundle, SealedFile

# Bytes of all files in clear; a large tokenizer has some 30 MB.
MAX_CLEAR = 512 << 20
INDEX = "model.safetensors.index.json"
PIECE = 1 << 20


def open_model(directory: Path, view: Path, signer: Signer, master: MasterKey, digest: str = "") -> Bundle:
    """The model, if every part of it is what its owner signed, and the key opens all of it.

    Args:
        view: a new directory, which gets the files in clear.
        digest: of its manifest, where that is known (`read_manifest`).

    Raises:
        Untrusted: it is not, with the file and what is wrong.
    """
    manifest = read_manifest(read_small(directory / NAME, MAX_MANIFEST), signer, digest)
    check_names(directory, manifest)
    copy_clear(directory, view, [each for each in manifest.files if not each.encrypted])
    chosen = loaded_files(view, [each for each in manifest.files if each.encrypted])
    keys, files, seen = bytearray(), [], set[str]()
    for entry in manifest.files:
        if not entry.encrypted:
            continue
        with opened(directory / entry.name, signer, entry.header_sha256) as file:
            opens = file.open_keys(master)
            names = {each.name for each in file.header.tensors}
        if entry.name not in chosen:
            continue
        if twice := seen & names:
            raise Untrusted(f"{entry.name}: tensor {min(twice)[:80]!r} is in another file too")
        seen |= names
        files.append(SealedFile(entry.name, entry.header_sha256, len(opens)))
        for each in opens:
            keys += each
    return Bundle(directory, view, tuple(files), len(master.secret), keys)


def check_names(directory: Path, manifest: ModelManifest) -> None:
    """What lies there is what was signed, and only what may be in clear is.

    Raises:
        Untrusted: it is not.
    """
    for entry in manifest.files:
        if entry.encrypted != entry.name.endswith(WEIGHTS) or not (entry.encrypted or is_clear(entry.name)):
            raise Untrusted(f"{entry.name}: may hold weights or code, and is not encrypted")
    if not any(entry.encrypted for entry in manifest.files):
        raise Untrusted("no file of this model is encrypted")
    try:
        names = foreign_names(directory, (entry.name for entry in manifest.files))
    except OSError as error:
        raise Untrusted(f"{directory}: {(error.strerror or 'cannot be read').lower()}") from None
    if foreign := [name for name in names if not name.startswith(".")]:
        raise Untrusted(f"{foreign[0][:200]!r} is next to the model, and its owner did not sign it")


def copy_clear(directory: Path, view: Path, entries: list[SignedFile]) -> None:
    """Copy the files in clear, each checked by what was copied.

    Raises:
        Untrusted: one is another than the one that was signed.
    """
    if sum(each.size for each in entries) > MAX_CLEAR:
        raise Untrusted(f"more than {MAX_CLEAR >> 20} MiB of files in clear")
    for entry in entries:
        digest = hashlib.sha256()
        with open(view / entry.name, "xb") as copy:
            for piece in pieces(directory / entry.name, entry.size + 1):
                digest.update(piece)
                copy.write(piece)
        if digest.hexdigest() != entry.sha256 or (view / entry.name).stat().st_size != entry.size:
            raise Untrusted(f"{entry.name}: not the file that was signed under this name")


def loaded_files(view: Path, entries: list[SignedFile]) -> set[str]:
    """Which files the engine loads: those of the index; without one all of them, but for Mistral's second copy.

    Raises:
        Untrusted: the index names a file that is not there.
    """
    names = {each.name for each in entries}
    if not (view / INDEX).exists():
        return {name for name in names if not name.startswith("consolidated")} or names
    index = strict_json((view / INDEX).read_bytes(), INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(each, str) for each in places.values()):
        raise Untrusted(f"{INDEX}: has no weight_map")
    if missing := sorted(set(places.values()) - names):
        raise Untrusted(f"{INDEX}: names {missing[0][:200]!r}, which is not there")
    return set(places.values())


def read_small(path: Path, most: int) -> bytes:
    """A whole file of at most so many bytes.

    Raises:
        Untrusted: it is larger, or no regular file.
    """
    data = b"".join(pieces(path, most + 1))
    if len(data) > most:
        raise Untrusted(f"{path.name}: larger than {most >> 20} MiB")
    return data


def pieces(path: Path, most: int) -> Iterator[bytes]:
    """At most so many bytes of a regular file, however long it is."""
    descriptor, _ = open_regular(path)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while most > 0 and (piece := file.read(min(PIECE, most))):
            most -= len(piece)
            yield piece

