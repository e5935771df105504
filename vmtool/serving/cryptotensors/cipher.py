"""Tensors' keys and chunks: wrapping, encrypting and decrypting in place.

Chunk i has the nonce base_iv[0:8] || BE32(BE32(base_iv[8:12]) + i); there are no associated data. cryptography leaves
plaintext in the buffer when a tag is wrong, so a buffer is overwritten before the error goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.header import IV, TAG, Encrypted, Header, Tensor
from vmtool.serving.cryptotensors.jwk import ALGORITHMS, MasterKey

CHACHA = "chacha20poly1305"


def aead(algorithm: str, key: bytes | bytearray) -> AESGCM | ChaCha20Poly1305:
    """The cipher of an algorithm of `jwk.ALGORITHMS`."""
    return ChaCha20Poly1305(key) if algorithm == CHACHA else AESGCM(key)


def new_base_iv() -> bytes:
    """A nonce to count from; its counter starts below 2^31, so that no tensor can make it wrap around."""
    iv = bytearray(os.urandom(IV))
    iv[8] &= 0x7F
    return bytes(iv)


def nonce(base_iv: bytes, index: int) -> bytes:
    """The nonce of a chunk."""
    return base_iv[:8] + (int.from_bytes(base_iv[8:]) + index).to_bytes(4)


def wrap(master: MasterKey, key: bytes) -> tuple[bytes, bytes, bytes]:
    """A tensor's key under the master key: (wrapped, nonce, tag)."""
    iv = os.urandom(IV)
    sealed = aead(master.algorithm, master.secret).encrypt(iv, key, None)
    return sealed[:-TAG], iv, sealed[-TAG:]


def unwrap(master: MasterKey, each: Encrypted) -> bytes:
    """A tensor's key.

    Raises:
        Untrusted: the master key is another one, or the wrapped key was changed.
    """
    try:
        return aead(master.algorithm, master.secret).decrypt(each.key_iv, each.wrapped_key + each.key_tag, None)
    except InvalidTag:
        raise Untrusted("the key does not open this file: it is another model's or version's") from None


def new_key(algorithm: str) -> bytes:
    """A tensor's key."""
    return os.urandom(ALGORITHMS[algorithm])


def spans(tensor: Tensor, chunk: int) -> Iterator[tuple[int, int, int]]:
    """(number, first byte, end) of each chunk, counted from the tensor's start; an empty tensor has one."""
    for number, start in enumerate(range(0, max(tensor.size, 1), chunk)):
        yield number, start, min(start + chunk, tensor.size)


def scratch_size(header: Header) -> int:
    """Bytes that `decrypt_chunk` needs beside its buffer."""
    largest = max(each.size for each in header.tensors)
    return min(header.chunk, largest) + TAG


def decrypt_chunk(algorithm: str, key: bytes | bytearray, each: Encrypted, number: int,
                  read: Callable[[memoryview], None], scratch: memoryview, into: memoryview) -> None:
    """Decrypt a chunk into a buffer of its size; what it holds afterwards counts only if nothing was raised.

    In one call, which leaves the interpreter to other threads; decrypting piece by piece does not.

    Args:
        read: fills a buffer with the chunk's bytes.
        scratch: of `scratch_size`; it is used again and again, since memory that is touched for the first time costs
            more than the cipher.

    Raises:
        Untrusted: the tag is wrong. cryptography leaves the plaintext in the buffer then.
    """
    sealed = scratch[:len(into) + TAG]
    read(sealed[:len(into)])
    sealed[len(into):] = each.tags[number * TAG:(number + 1) * TAG]
    try:
        aead(algorithm, key).decrypt_into(nonce(each.base_iv, number), sealed, None, into)
    except InvalidTag:
        raise Untrusted("its bytes were changed, or are another file's") from None
