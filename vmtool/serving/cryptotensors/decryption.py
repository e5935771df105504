"""Decrypting the tensors of a file by several threads, and no tensor is whole before all of its tags were right.

Reading and decrypting leave the interpreter to other threads. A chunk is read into a thread's own memory first: in the
file itself somebody could change it between the check of its tag and its use.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from vmtool.serving.cryptotensors import cipher
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.files import read_exactly, wipe
from vmtool.serving.cryptotensors.header import Tensor
from vmtool.serving.cryptotensors.jwk import MasterKey
from vmtool.serving.cryptotensors.reader import EncryptedFile

# That decrypt at once, and the bytes that they work in: another's file can have chunks of up to 64 MiB.
MOST_THREADS, MOST_SCRATCH = 8, 128 << 20


class Decryption:
    """The threads of one file. At the end of the `with` block none of them works any more.

    Args:
        processors: on which they run.
    """

    def __init__(self, file: EncryptedFile, processors: set[int]) -> None:
        self.file, self.processors, self.own = file, processors, threading.local()
        self.size = cipher.scratch_size(file.header)
        self.threads = max(1, min(MOST_THREADS, len(processors), MOST_SCRATCH // self.size))
        self.pool = ThreadPoolExecutor(self.threads, initializer=self._settle)

    def __enter__(self) -> Decryption:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.pool.shutdown(cancel_futures=True)

    def begin(self, tensor: Tensor, key: bytes | bytearray, buffer: memoryview) -> list[Future[None]]:
        """Decrypt a tensor into a buffer of its size, which counts only after `finish`.

        Args:
            key: of this tensor, from `cipher.unwrap`.
        """
        spans = list(cipher.spans(tensor, self.file.header.chunk))
        count = min(self.threads, len(spans))
        return [self.pool.submit(self._some, tensor, key, buffer, spans[number::count]) for number in range(count)]

    def _settle(self) -> None:
        """A thread that begins. Its memory is used again and again: to touch new one costs more than the cipher."""
        with contextlib.suppress(OSError):  # none of them is this process's any more
            os.sched_setaffinity(0, self.processors)
        self.own.scratch = memoryview(bytearray(self.size))

    def _some(self, tensor: Tensor, key: bytes | bytearray, buffer: memoryview,
              spans: Sequence[tuple[int, int, int]]) -> None:
        """Some chunks of it."""
        header, place = self.file.header, self.file.start + tensor.start
        for number, start, end in spans:
            def read(piece: memoryview, start: int = start) -> None:
                read_exactly(self.file.descriptor, piece, place + start)

            cipher.decrypt_chunk(header.algorithm, key, header.encrypted[tensor.name], number, read,
                                 self.own.scratch, buffer[start:end])


def finish(tensor: Tensor, parts: Sequence[Future[None]]) -> None:
    """Wait until a tensor is whole.

    Raises:
        Untrusted: a tag is wrong, or the file became shorter; its buffer must be overwritten when the threads ended.
    """
    try:
        for part in parts:
            part.result()
    except Untrusted as error:
        raise Untrusted(f"tensor {tensor.name!r}: {error}") from None


def decrypted(file: EncryptedFile, master: MasterKey, buffer_of: Callable[[Tensor], memoryview]) -> Iterator[Tensor]:
    """Every tensor in the order of the file, once it is whole in the buffer that it was given.

    Raises:
        Untrusted: as `finish`; no buffer holds a part of a tensor then.
    """
    begun: memoryview | None = None
    try:
        with Decryption(file, os.sched_getaffinity(0)) as work:
            for tensor, key in zip(file.header.tensors, file.open_keys(master), strict=True):
                begun = buffer_of(tensor)
                finish(tensor, work.begin(tensor, key, begun))
                begun = None
                yield tensor
    finally:
        if begun is not None:
            wipe(begun)
