"""The tensors of an encrypted model for PyTorch, one after the other, in memory that is used again.

Page faults cost more than the cipher does (in a confidential VM still more), so a tensor's buffer becomes the next
one's as soon as nobody else holds it: what a loader keeps, stays. Huge pages are not asked for: where memory is in
pieces, the kernel takes longer to find some than they save (measured: the copies took 1.4 CPU seconds instead of 0.6).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from vmtool.serving.cryptotensors.decryption import Decryption, finish
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import wipe
from vmtool.serving.cryptotensors.header import Tensor
from vmtool.serving.cryptotensors.reader import EncryptedFile, opened
from vmtool.serving.encrypted.bundle import Bundle

if TYPE_CHECKING:
    import torch

# References to a buffer that only the pool has: the pool's, the loop's, and that of the call that counts them.
FREE = 3
# Bytes and tensors that are decrypted while the loader copies one: small ones between large ones keep nobody waiting.
AHEAD, MOST_AHEAD = 16 << 20, 8
DTYPES = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
          "F8_E8M0": "float8_e8m0fnu", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16",
          "I32": "int32", "U32": "uint32", "F32": "float32", "F64": "float64", "I64": "int64", "U64": "uint64",
          "C64": "complex64"}


class Buffers:
    """Memory for tensors; small ones find what a large one has left."""

    def __init__(self) -> None:
        self.all: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """One of at least so many bytes that nobody else holds. What is free and too small goes."""
        self.all = [each for each in self.all if len(each) >= size or sys.getrefcount(each) > FREE]
        for each in self.all:
            if sys.getrefcount(each) <= FREE and len(each) >= size:
                return each
        self.all.append(bytearray(size))
        return self.all[-1]

    def wipe(self) -> None:
        """Overwrite what nobody holds."""
        for each in self.all:
            if sys.getrefcount(each) <= FREE:
                wipe(each)
        self.all = []


def load_tensors(bundle: Bundle, wanted: Callable[[str], bool] = lambda name: True
                 ) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the model. Before the first byte is decrypted every file is open and is the one that was checked;
    a tensor is given only when all of its tags are right.

    Args:
        wanted: which files, by their names.

    Raises:
        Untrusted: a byte is not what was signed; no buffer holds plaintext then, and the process should end.
    """
    buffers = Buffers()
    with contextlib.ExitStack() as stack:
        files = [(number, stack.enter_context(opened(bundle.directory / each.name, None, each.header)))
                 for number, each in enumerate(bundle.files) if wanted(each.name)]
        try:
            for number, file in files:
                yield from _of_file(file, bundle.of_file(number), buffers)
        finally:
            buffers.wipe()
            wipe(bundle.keys)


def _of_file(file: EncryptedFile, keys: list[bytearray], buffers: Buffers) -> Iterator[tuple[str, torch.Tensor]]:
    """While the loader copies a tensor, the next ones are decrypted."""
    todo = deque(zip(file.header.tensors, keys, strict=True))
    coming: deque[tuple[Tensor, bytearray, list[Future[None]]]] = deque()

    def begin() -> None:
        while todo and len(coming) < MOST_AHEAD and sum(each.size for each, _, _ in coming) < AHEAD:
            tensor, key = todo.popleft()
            buffer = buffers.take(tensor.size)
            coming.append((tensor, buffer, work.begin(tensor, key, memoryview(buffer)[:tensor.size])))

    try:
        with Decryption(file, processors()) as work:
            begin()
            while coming:
                finish(coming[0][0], coming[0][2])
                tensor, buffer, _ = coming.popleft()
                begin()  # at the latest now: the loader is busy with this one until it asks for the next
                yield tensor.name, as_torch(tensor, buffer)
                del buffer
    finally:
        for _, buffer, _ in coming:
            wipe(buffer)
        for key in keys:
            wipe(key)


def processors() -> set[int]:
    """On which this process may run as a whole. vLLM binds a worker's first thread, from which the others have it, to a
    single one: the engine's process, which started the worker, is not bound.
    """
    return os.sched_getaffinity(0) | os.sched_getaffinity(os.getppid())


def as_torch(tensor: Tensor, buffer: bytearray) -> torch.Tensor:
    """A tensor whose memory the buffer is.

    Raises:
        Untrusted: PyTorch has no such type.
    """
    import torch

    dtype = getattr(torch, DTYPES.get(tensor.dtype, ""), None)
    if dtype is None:
        raise Untrusted(f"tensor {tensor.name[:80]!r}: PyTorch has no type {tensor.dtype}")
    if not tensor.size:
        return torch.empty(tensor.shape, dtype=dtype)
    count = tensor.size // dtype.itemsize
    return torch.frombuffer(buffer, dtype=dtype, count=count).reshape(tensor.shape)
