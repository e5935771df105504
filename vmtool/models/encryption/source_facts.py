"""Whether an encrypted model is that of a source, without reading all of its weights.

Two trainings of one model have the same files, tensors and sizes, and often the same configuration. So a few pieces of
the weights are decrypted and compared too, which ones the file itself decides: the same for every try.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.models.encryption.progress import SourceFile
from vmtool.serving.cryptotensors import cipher
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import open_regular, read_exactly, wipe
from vmtool.serving.cryptotensors.header import RESERVED, Header, Tensor, parse_plain
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer
from vmtool.serving.cryptotensors.manifest import MAX_MANIFEST, NAME, SignedFile, read_manifest
from vmtool.serving.cryptotensors.reader import LENGTH, EncryptedFile, opened, read_header

# Pieces of each file of weights that are compared: of so many tensors, where it has them, one chunk.
SAMPLES = 32
_PIECE = 4 << 20


def difference(target: Path, files: tuple[SourceFile, ...], master: MasterKey, signer: Signer) -> str:
    """In which file the signed model in `target` is another one than that of these files, and how; empty when nothing
    that is compared differs."""
    try:
        manifest = read_manifest(read_regular(target / NAME, MAX_MANIFEST), signer)
        signed_at = os.stat(target / NAME).st_mtime_ns
    except (OSError, ValueError, Refused) as error:
        return str(error)
    entries, sources = {each.name: each for each in manifest.files}, {each.name: each for each in files}
    for name in sorted({*entries, *sources}):
        if name not in sources or name not in entries:
            return f"{name}: only {'the encrypted model' if name in entries else 'the source'} has such a file"
        if how := _how(target / name, entries[name], sources[name], signed_at, (master, signer)):
            return f"{name}: {how}"
    return ""


def _how(path: Path, entry: SignedFile, source: SourceFile, signed_at: int, keys: tuple[MasterKey, Signer]) -> str:
    try:
        descriptor, size = open_regular(source.path)
        with os.fdopen(descriptor, "rb"):
            if not entry.encrypted:
                return _clear(path, entry, descriptor)
            with opened(path, keys[1]) as made:
                return _signed(made, entry) or _changed(source, signed_at) or _weights(made, descriptor, size, keys[0])
    except (Untrusted, OSError) as error:
        return str(error)


def _clear(path: Path, entry: SignedFile, source: int) -> str:
    made, _ = open_regular(path)
    with os.fdopen(made, "rb"):
        if _digest(made) != entry.sha256:
            return "not the file that was signed"
    return "" if _digest(source) == entry.sha256 else "the source has other bytes"


def _digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    while piece := os.read(descriptor, _PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _signed(made: EncryptedFile, entry: SignedFile) -> str:
    if os.fstat(made.descriptor).st_size == entry.size and (
            hashlib.sha256(made.header.text()).hexdigest() == entry.header_sha256):
        return ""
    return "not the file that was signed"


def _changed(source: SourceFile, signed_at: int) -> str:
    """With the note on what it was made of that is known; else a change after the signature shows."""
    since = source.done.source != source.state if source.done else (
        source.state is not None and source.state.changed > signed_at)
    return "the source was changed since" if since else ""


def _weights(made: EncryptedFile, descriptor: int, size: int, master: MasterKey) -> str:
    text, header = read_header(descriptor, size), made.header
    tensors, metadata = parse_plain(text, size - LENGTH - len(text))
    keys = made.open_keys(master)
    if set(RESERVED) & set(metadata):  # it was encrypted before, and taken over; the tags of all chunks are in there
        return "" if text == header.text() else "the source has another header"
    if (tensors, metadata) != (header.tensors, dict(header.metadata)):
        return "the source has other tensors: names, types, shapes or metadata"
    return next((f"the source has another tensor {tensor.name[:80]!r}" for tensor in _other_tensors(
        made, keys, descriptor, LENGTH + len(text))), "")


def _other_tensors(made: EncryptedFile, keys: list[bytes], source: int, source_start: int) -> Iterator[Tensor]:
    header = made.header
    scratch = memoryview(bytearray(cipher.scratch_size(header)))
    plain, wanted = memoryview(bytearray(len(scratch))), memoryview(bytearray(len(scratch)))
    try:
        for tensor, key, (number, start, end) in _samples(header, keys):
            length, place = end - start, tensor.start + start

            def read(piece: memoryview, place: int = made.start + place) -> None:
                read_exactly(made.descriptor, piece, place)

            cipher.decrypt_chunk(header.algorithm, key, header.encrypted[tensor.name], number, read, scratch,
                                 plain[:length])
            read_exactly(source, wanted[:length], source_start + place)
            if plain[:length] != wanted[:length]:
                yield tensor
    finally:
        wipe(plain)
        wipe(wanted)


def _samples(header: Header, keys: list[bytes]) -> Iterator[tuple[Tensor, bytes, tuple[int, int, int]]]:
    """One chunk each of some tensors; neither evenly spaced nor the first ones, since layers repeat."""
    drawn = sorted((hashlib.sha256(header.signature + tensor.name.encode()).digest(), number)
                   for number, tensor in enumerate(header.tensors))
    for digest, number in drawn[:SAMPLES]:
        spans = list(cipher.spans(header.tensors[number], header.chunk))
        yield header.tensors[number], keys[number], spans[int.from_bytes(digest) % len(spans)]
