"""An encrypted file whose header was checked before the first byte is decrypted.

The file is opened once and read by its descriptor: whoever can write to it while it is read can only make it refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmtool.serving.cryptotensors import cipher
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import open_regular, read_exactly
from vmtool.serving.cryptotensors.header import MAX_HEADER, Header, parse
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer

# The field before a header: its length, little endian.
LENGTH = 8


@dataclass(frozen=True)
class EncryptedFile:
    """An open file whose header keeps every rule.

    Args:
        start: the first byte after the header.
    """

    descriptor: int
    header: Header
    start: int

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
