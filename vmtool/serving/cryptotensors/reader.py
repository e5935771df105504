"""Reading an encrypted file: all is checked before the first byte is decrypted, tags before a tensor is used.

The file is opened once and read by its descriptor: whoever can write to it while it is read can only make it refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmtool.serving.cryptotensors import cipher
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import open_regular, read_exactly, wipe
from vmtool.serving.cryptotensors.header import MAX_HEADER, Header, Tensor, parse
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer

# The field before a header: its length, little endian.
LENGTH = 8
# That decrypt at once, and the bytes that they work in: another's file can have chunks of up to 64 MiB.
MOST_THREADS, MOST_SCRATCH = 8, 128 << 20


@dataclass(frozen=True)
class EncryptedFile:
    """An open file whose header keeps every rule.

    Args:
        start: the first byte after the header.
    """

    descriptor: int
    header: Header
    start: int

    def scratch(self) -> list[memoryview]:
        """What `read_into` works in: one for each thread."""
        size = cipher.scratch_size(self.header)
        threads = max(1, min(MOST_THREADS, len(os.sched_getaffinity(0)), MOST_SCRATCH // size))
        return [memoryview(bytearray(size)) for _ in range(threads)]

    def read_into(self, tensor: Tensor, key: bytes | bytearray, buffer: memoryview,
                  scratch: Sequence[memoryview]) -> None:
        """Decrypt a tensor into a buffer of its size.

        Args:
            key: of this tensor, from `cipher.unwrap`.

        Raises:
            Untrusted: a tag is wrong, or the file became shorter; whatever it is, the buffer holds no plaintext then.
        """
        spans = list(cipher.spans(tensor, self.header.chunk))
        threads = min(len(scratch), len(spans))
        try:
            if threads == 1:
                self._read_some(tensor, key, buffer, scratch[0], spans)
                return
            with ThreadPoolExecutor(threads) as pool:  # whose end waits for all of them
                parts = [pool.submit(self._read_some, tensor, key, buffer, scratch[number], spans[number::threads])
                         for number in range(threads)]
            for part in parts:
                part.result()
        except BaseException as error:
            wipe(buffer)
            if isinstance(error, Untrusted):
                raise Untrusted(f"tensor {tensor.name!r}: {error}") from None
            raise

    def _read_some(self, tensor: Tensor, key: bytes | bytearray, buffer: memoryview, scratch: memoryview,
                   spans: Sequence[tuple[int, int, int]]) -> None:
        """Some chunks of it. Reading and decrypting leave the interpreter to other threads."""
        each, place = self.header.encrypted[tensor.name], self.start + tensor.start
        for number, start, end in spans:
            def read(piece: memoryview, start: int = start) -> None:
                read_exactly(self.descriptor, piece, place + start)

            cipher.decrypt_chunk(self.header.algorithm, key, each, number, read, scratch, buffer[start:end])

    def tensors(self, master: MasterKey, buffer_of: Callable[[Tensor], memoryview]) -> Iterator[Tensor]:
        """Every tensor in the order of the file, once it is whole in the buffer that it was given."""
        keys, scratch = self.open_keys(master), self.scratch()
        for tensor, key in zip(self.header.tensors, keys, strict=True):
            self.read_into(tensor, key, buffer_of(tensor), scratch)
            yield tensor

    def open_keys(self, master: MasterKey) -> list[bytes]:
        """As `open_keys`."""
        return open_keys(self.header, master)


def open_keys(header: Header, master: MasterKey) -> list[bytes]:
    """Every tensor's key, in the order of the tensors: a matter of microseconds each.

    Raises:
        Untrusted: the master key is of another algorithm, or another key.
    """
    if master.algorithm != header.algorithm:
        raise Untrusted(f"encrypted with {header.algorithm}, and the key is for {master.algorithm}")
    return [cipher.unwrap(master, header.encrypted[each.name]) for each in header.tensors]


@contextmanager
def opened(path: Path, signer: Signer | None, digest: str = "") -> Iterator[EncryptedFile]:
    """An encrypted file, its header signed by `signer`, or of a known digest, which whoever checked it has found.

    Args:
        digest: SHA-256 of the header's text in hexadecimal; empty for any that the signer signed.

    Raises:
        Untrusted: it is not such a file; the message begins with its name.
    """
    descriptor, size = open_regular(path)
    try:
        try:
            text = read_header(descriptor, size)
            if (digest or not signer) and hashlib.sha256(text).hexdigest() != digest:
                raise Untrusted("not the file that was signed under this name")
            header = parse(text, size - LENGTH - len(text))
            if signer:
                signer.check(header.signature, header.signed_text(), "the header")
        except Untrusted as error:
            raise Untrusted(f"{path.name}: {error}") from None
        yield EncryptedFile(descriptor, header, LENGTH + len(text))
    finally:
        os.close(descriptor)



def read_header(descriptor: int, size: int) -> bytes:
    """The header's text, without the length before it.

    Raises:
        Untrusted: the length is larger than the file or than safetensors allows.
    """
    field = bytearray(LENGTH)
    read_exactly(descriptor, memoryview(field), 0)
    length = int.from_bytes(field, "little")
    if not 2 <= length <= min(MAX_HEADER, size - LENGTH):
        raise Untrusted("not a safetensors file: the length of its header makes no sense")
    text = bytearray(length)
    read_exactly(descriptor, memoryview(text), LENGTH)
    return bytes(text)
