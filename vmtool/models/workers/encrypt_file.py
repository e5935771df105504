"""Encrypt a safetensors file: a worker. It holds two chunks in memory, whatever the model's size.

A file that is encrypted already, by the same keys, is checked and taken over as it is.

Every length in a header is known beforehand, so its place is left free, the tensors are encrypted one chunk after the
other, and the header comes last. Until then the length field is zero, and no reader accepts the file.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.host import files
from vmtool.machine import Host
from vmtool.models.encryption.keys import read_master, read_signer
from vmtool.models.encryption.progress import Done, SourceState, new_path, write_done
from vmtool.serving.cryptotensors import cipher
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import open_regular, read_exactly
from vmtool.serving.cryptotensors.header import (
    CHUNK,
    RESERVED,
    SIGNATURE,
    TAG,
    Encrypted,
    Header,
    chunks,
    parse,
    parse_plain,
)
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import SignedFile
from vmtool.serving.cryptotensors.reader import LENGTH, open_keys, read_header

# Seconds between two lines on how far it is.
REPORT_EVERY = 5.0


@dataclass(frozen=True)
class Order:
    """What to encrypt.

    Args:
        source: the plain file, with no link on the last step to it.
        target: where the encrypted file appears, whole.
        key, signer: files with keys (JWK), of mode 0600.
    """

    source: Path
    target: Path
    key: Path
    signer: Path


def run(order: Order, host: Host) -> None:
    """Encrypt it.

    Raises:
        Refused: the source is no sound, plain safetensors file, changes meanwhile, or a key is none.
    """
    master, signer, new = read_master(order.key), read_signer(order.signer), new_path(order.target)
    new.unlink(missing_ok=True)
    try:
        descriptor, size = open_regular(order.source)
        with os.fdopen(descriptor, "rb"), open(new, "xb", buffering=0) as out:
            before = SourceState.of(os.fstat(descriptor))
            text = read_header(descriptor, size)
            if taken := _taken_over(text, size, master, signer):
                header, digest = taken, _copy(descriptor, taken, out.fileno())
            else:
                header = _prepared(text, size, master, signer)
                header, digest = _write(descriptor, LENGTH + len(text), header, master, out.fileno())
            text = _finish(header, signer, out.fileno())
            if SourceState.of(os.fstat(descriptor)) != before:
                raise Refused(f"{order.source}: was changed while it was encrypted", hint="encrypt it again")
    except Untrusted as error:
        raise Refused(f"{order.source.name}: {error}", hint="see that the download is complete") from error
    os.rename(new, order.target)
    files.sync_directory(order.target.parent)
    entry = SignedFile(order.target.name, LENGTH + len(text) + header.data_size,
                  header_sha256=hashlib.sha256(text).hexdigest(), data_sha256=digest)
    write_done(order.target, Done(before, entry, master.kid, signer.kid))


def _taken_over(text: bytes, size: int, master: MasterKey, signer: Signer) -> Header | None:
    """The header of a file that is encrypted already, as by cryptotensors' own save_file; None for a plain one.

    Raises:
        Untrusted: it is, but not by these keys, or not as a whole.
    """
    _, metadata = parse_plain(text, size - LENGTH - len(text))
    if not set(RESERVED) & set(metadata):
        return None
    header = parse(text, size - LENGTH - len(text))
    signer.check(header.signature, header.signed_text(), "it is encrypted already, and its header")
    open_keys(header, master)
    return header


def _copy(source: int, header: Header, out: int) -> str:
    """The encrypted bytes, as they are; their SHA-256."""
    place, digest, piece = LENGTH + len(header.text()), hashlib.sha256(), memoryview(bytearray(CHUNK))
    os.lseek(out, place, os.SEEK_SET)
    for start in range(0, header.data_size, CHUNK):
        part = piece[:min(CHUNK, header.data_size - start)]
        read_exactly(source, part, place + start)
        digest.update(part)
        _write_all(out, part)
    return digest.hexdigest()


def _prepared(text: bytes, size: int, master: MasterKey, signer: Signer) -> Header:
    """The header, with zeros where the secrets come."""
    tensors, metadata = parse_plain(text, size - LENGTH - len(text))
    if not tensors:
        raise Untrusted("it has no tensor")
    blank = {each.name: Encrypted(bytes(len(master.secret)), bytes(12), bytes(TAG), bytes(12),
                                  bytes(TAG * chunks(each.size, CHUNK))) for each in tensors}
    return Header(master.algorithm, master.kid, signer.kid, CHUNK, tensors, blank, metadata, bytes(SIGNATURE))


def _write(source: int, start: int, header: Header, master: MasterKey, out: int) -> tuple[Header, str]:
    """Every tensor, encrypted, after the header's place; the header with its secrets, and the data's SHA-256."""
    place, digest, secrets = LENGTH + len(header.text()), hashlib.sha256(), dict(header.encrypted)
    os.posix_fallocate(out, 0, place + header.data_size)
    progress = _Progress(header.data_size)
    # The same for every chunk: memory that is touched for the first time costs more than the cipher.
    plain, room = memoryview(bytearray(header.chunk)), memoryview(bytearray(header.chunk + TAG))
    os.lseek(out, place, os.SEEK_SET)
    for tensor in header.tensors:
        key, base_iv, tags = cipher.new_key(master.algorithm), cipher.new_base_iv(), bytearray()
        opened = cipher.aead(master.algorithm, key)
        for number, begin, end in cipher.spans(tensor, header.chunk):
            piece, sealed = plain[:end - begin], room[:end - begin + TAG]
            read_exactly(source, piece, start + tensor.start + begin)
            opened.encrypt_into(cipher.nonce(base_iv, number), piece, None, sealed)
            tags += sealed[-TAG:]
            piece = sealed[:-TAG]
            digest.update(piece)
            _write_all(out, piece)
            progress.add(end - begin)
        secrets[tensor.name] = Encrypted(*cipher.wrap(master, key), base_iv, bytes(tags))
    return replace(header, encrypted=secrets), digest.hexdigest()


def _finish(header: Header, signer: Signer, out: int) -> bytes:
    """Sign the header and put it into its place, once the data are on the disk."""
    signed = replace(header, signature=signer.sign(header.signed_text()))
    text = signed.text()
    os.fsync(out)
    files.write_at(out, text, LENGTH)
    os.fsync(out)
    files.write_at(out, len(text).to_bytes(LENGTH, "little"), 0)
    os.fsync(out)
    return text


def _write_all(out: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(out, piece):]


class _Progress:
    """A line every few seconds: how far it is, and at what rate."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started = total, 0, time.monotonic()
        self.next = self.started + REPORT_EVERY

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now >= self.next:
            rate = self.done / (now - self.started)
            print(f"{self.done >> 20} of {self.total >> 20} MiB, {rate / 1e6:.0f} MB/s", file=sys.stderr, flush=True)
            self.next = now + REPORT_EVERY
