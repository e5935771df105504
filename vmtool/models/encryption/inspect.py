"""Whether an encrypted model is what its owner signed; with the key, whether every byte opens."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import Refused, VerificationFailed, shell_word
from vmtool.findings import Finding, finding
from vmtool.foreign import read_regular
from vmtool.host.safe_open import open_regular
from vmtool.serving.cryptotensors.decryption import decrypted
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import (
    MAX_MANIFEST,
    NAME,
    ModelManifest,
    SignedFile,
    foreign_names,
    read_manifest,
)
from vmtool.serving.cryptotensors.reader import EncryptedFile, opened

_PIECE = 4 << 20


def open_manifest(directory: Path, signer: Signer) -> ModelManifest:
    """The directory's manifest.

    Raises:
        Refused: there is no such directory, or no manifest in it.
        VerificationFailed: the signer did not sign it.
    """
    if not directory.is_dir():
        what = "not a directory" if os.path.lexists(directory) else "no such directory"
        raise Refused(f"{directory}: {what}", hint=f"name the model's directory: ls -l {shell_word(directory.parent)}")
    try:
        return read_manifest(read_regular(directory / NAME, MAX_MANIFEST), signer)
    except (Untrusted, Refused) as error:
        raise VerificationFailed(f"{directory}: {error}", hint="get the model again from its owner, and the owner's "
                                 "public key: vmtool key export-public SIGNER") from None
    except FileNotFoundError:
        raise Refused(f"{directory}: no {NAME} in it, so it is not an encrypted model",
                      hint="vmtool model encrypt DIR -o OUT --key MASTER --sign SIGNER makes one") from None


def inspect_model(directory: Path, manifest: ModelManifest, signer: Signer, *, data: bool,
                  master: MasterKey | None) -> Iterator[Finding]:
    """A finding for each file, and for what is there beside them.

    Args:
        data: read the encrypted bytes too, and compare their digest.
        master: decrypt every tensor too, into memory that is overwritten by the next one.
    """
    for entry in manifest.files:
        try:
            said = _check(directory / entry.name, entry, signer, data, master)
        except (Untrusted, Refused, OSError) as error:
            yield finding("model.file", entry.name, "fail", str(error), "get the file again from the model's owner")
        else:
            yield finding("model.file", entry.name, "ok", said)
    for name in foreign_names(directory, (entry.name for entry in manifest.files)):
        path = directory / name
        tree = path.is_dir() and not path.is_symlink()
        yield finding("model.foreign", name, "fail", "its owner did not sign it",
                      f"rm {'-r ' if tree else ''}{shell_word(path)}")


def _check(path: Path, entry: SignedFile, signer: Signer, data: bool, master: MasterKey | None) -> str:
    if not entry.encrypted:
        _compare(path, entry.size, _digest_of(path, 0), entry.sha256)
        return f"in clear, {entry.size} bytes as signed"
    with opened(path, signer) as file:
        _compare(path, entry.size, hashlib.sha256(file.header.text()).hexdigest(), entry.header_sha256)
        if data:
            _compare(path, entry.size, _digest_of(path, file.start), entry.data_sha256)
        if master:
            _decrypt_all(file, master)
        count = len(file.header.tensors)
    how = "every byte opens" if master else "bytes as signed" if data else "header as signed"
    return f"{count} tensor{'s' if count > 1 else ''}, every one encrypted with {file.header.algorithm}; {how}"


def _compare(path: Path, size: int, found: str, wanted: str) -> None:
    if path.lstat().st_size != size or found != wanted:
        raise Untrusted("not the bytes that were signed")


def _digest_of(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb", buffering=0) as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _decrypt_all(file: EncryptedFile, master: MasterKey) -> None:
    buffer = bytearray(max(each.size for each in file.header.tensors))
    try:
        for _ in decrypted(file, master, lambda tensor: memoryview(buffer)[:tensor.size]):
            pass
    finally:
        buffer[:] = bytes(len(buffer))
