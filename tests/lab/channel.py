"""The host's end of the agent: requests go out at once, a thread takes in the answers, each finds its request."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass

from tests.lab.cache import LabError
from tests.lab.guest.agent import Head, pack, unpack

SLACK = 30.0        # seconds that the agent may need beyond a command's own deadline, on a busy machine
Answer = tuple[Head, bytes]


class Gone(LabError):
    """The guest was reset or restored, or has ended, before it answered."""


@dataclass
class Request:
    """A question under way. A command answers twice: when it has a pid, and when it has ended."""

    first: Future[Answer]
    last: Future[Answer]

    def wait(self, seconds: float) -> Answer:
        """The last answer; LabError when the agent gives none, or an error, in time."""
        return _result(self.last, seconds)

    def started(self, seconds: float = SLACK) -> Answer:
        """The first answer."""
        return _result(self.first, seconds)


class Channel:
    """Owns the socket: closed by `close`, or when the peer closes it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._numbers = itertools.count(1)
        self._open: dict[int, Request] = {}
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._take_in, daemon=True)
        self._thread.start()

    def ask(self, head: Head, body: bytes = b"") -> Request:
        """Send a request, without waiting for its answer."""
        request = Request(Future(), Future())
        with self._turn:
            number = next(self._numbers)
            self._open[number] = request
            try:
                self._socket.sendall(pack({**head, "id": number}, body))
            except OSError as error:
                raise Gone(f"the guest's agent cannot be reached: {error}") from None
        return request

    def ping(self, deadline: float) -> str:
        """Wait until the agent answers; the id of the boot it answers from."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            request = self.ask({"do": "ping", "time": time.time()})
            with contextlib.suppress(LabError):
                return str(request.wait(2.0)[0]["boot"])
            if not self._thread.is_alive():
                raise Gone("QEMU has ended")
        raise LabError(f"the guest's agent did not answer within {deadline:.0f} s")

    def forget(self) -> None:
        """Give up what is under way: the guest was put back and knows nothing of it."""
        with self._turn:
            requests = list(self._open.values())
            self._open.clear()
        for request in requests:
            for future in (request.first, request.last):
                if not future.done():
                    future.set_exception(Gone("the guest was reset or restored before the answer"))

    def close(self) -> None:
        """End the thread and fail what is under way."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
        self.forget()

    def _read(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            piece = self._socket.recv(min(size - len(got), 1 << 20))
            if not piece:
                raise EOFError
            got += piece
        return bytes(got)

    def _take_in(self) -> None:
        try:
            while True:
                head, body = unpack(self._read)
                self._deliver(head, body)
        except (EOFError, OSError):
            self.forget()

    def _deliver(self, head: Head, body: bytes) -> None:
        final = "pid" not in head
        with self._turn:
            request = self._open.pop(head["id"], None) if final else self._open.get(head["id"])
        if not request:
            return                                     # of before a reset
        for future in (request.first, *([request.last] if final else [])):
            if not future.done():
                future.set_result((head, body))


def _result(future: Future[Answer], seconds: float) -> Answer:
    try:
        head, body = future.result(seconds)
    except Late:
        raise LabError(f"the guest's agent did not answer within {seconds:.0f} s") from None
    if "error" in head:
        raise LabError(f"the guest's agent: {head['error']}")
    return head, body
