"""Wrap a file's tensor keys with another master key: a worker. The encrypted data stay as they are.

The new file comes under another name, whole, in another directory; where the file system can, it shares the data's
blocks with the old one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import replace
from pathlib import Path

from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.host import files
from vmtool.host.clone import clone, copy_range
from vmtool.machine import Host
from vmtool.models.encryption.keys import read_master, read_signer
from vmtool.models.encryption.progress import Done, SourceState, new_path, write_done
from vmtool.serving.cryptotensors import cipher
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.header import Header
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import MAX_MANIFEST, NAME, SignedFile, read_manifest
from vmtool.serving.cryptotensors.reader import LENGTH, EncryptedFile, opened


@dataclass(frozen=True)
class Order:
    """What to wrap again.

    Args:
        source: a file of an encrypted model, next to its manifest.
        target: where the new one appears, whole.
        key, new_key, signer: files with keys (JWK), of mode 0600.
    """

    source: Path
    target: Path
    key: Path
    new_key: Path
    signer: Path


def run(order: Order, host: Host) -> None:
    """Do it.

    Raises:
        Refused: the file is not what the manifest says, or the key does not open it.
    """
    old, new, signer = read_master(order.key), read_master(order.new_key), read_signer(order.signer)
    entry = _entry(order.source, signer)
    try:
        with opened(order.source, signer) as file:
            status = os.fstat(file.descriptor)
            if hashlib.sha256(file.header.text()).hexdigest() != entry.header_sha256 or status.st_size != entry.size:
                raise Untrusted("not the file that the manifest has")
            text = rewrapped(file.header, old, new, signer).text()
            size = _write(file, text, new_path(order.target), stat.S_IMODE(status.st_mode))
    except Untrusted as error:
        raise Refused(f"{order.source}: {error}", hint="vmtool model verify says which files are whole") from error
    os.rename(new_path(order.target), order.target)
    files.sync_directory(order.target.parent)
    made = SignedFile(entry.name, size, header_sha256=hashlib.sha256(text).hexdigest(), data_sha256=entry.data_sha256)
    write_done(order.target, Done(SourceState.of(status), made, new.kid, signer.kid))


def rewrapped(header: Header, old: MasterKey, new: MasterKey, signer: Signer) -> Header:
    """The header with each tensor's key under the new master key, signed.

    Raises:
        Untrusted: the old key does not open it, or the new one is of another algorithm.
    """
    for master in (old, new):
        if master.algorithm != header.algorithm:
            raise Untrusted(f"encrypted with {header.algorithm}, and the key {master.kid} is for {master.algorithm}")
    secrets = {}
    for name, each in header.encrypted.items():
        key, iv, tag = cipher.wrap(new, cipher.unwrap(old, each))
        secrets[name] = replace(each, wrapped_key=key, key_iv=iv, key_tag=tag)
    made = replace(header, enc_kid=new.kid, sign_kid=signer.kid, encrypted=secrets)
    return replace(made, signature=signer.sign(made.signed_text()))


def _entry(source: Path, signer: Signer) -> SignedFile:
    manifest = read_manifest(read_regular(source.parent / NAME, MAX_MANIFEST), signer)
    for each in manifest.files:
        if each.name == source.name and each.encrypted:
            return each
    raise Refused(f"{source}: the manifest has no such encrypted file", hint="vmtool model inspect DIR --signer FILE")


def _write(file: EncryptedFile, text: bytes, new: Path, mode: int) -> int:
    """The new file under the name that it has until it is whole; its bytes."""
    new.unlink(missing_ok=True)
    start, size = LENGTH + len(text), file.header.data_size
    with open(new, "xb", buffering=0) as out:
        descriptor = out.fileno()
        if start != file.start or not clone(file.descriptor, descriptor):
            copy_range(file.descriptor, descriptor, file.start, start, size)
        files.write_at(descriptor, len(text).to_bytes(LENGTH, "little") + text, 0)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    return start + size
