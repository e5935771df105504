"""HTTP/1.1 to vLLM over its Unix socket, one request at a time on each connection, by llhttp (httptools).

Nothing is asked twice: what broke off may have been generated already.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import cast

import httptools

from vmtool.serving.turns import Share, running

# vLLM's own answers have some ten headers.
MOST_HEAD = 64 << 10
BODYLESS = (204, 304)


class BrokenOff(ConnectionError):
    """The engine ended the connection in the middle, or what came is no HTTP."""


class Upstream(asyncio.Protocol):
    """A connection, which holds of one answer what has come and was not taken yet.

    Args:
        buffered: bytes of an answer that may wait; then the engine is slowed down.
    """

    def __init__(self, buffered: int) -> None:
        self.buffered = buffered
        self.transport: asyncio.Transport
        self.descriptor: int | None = None
        self.share: Share | None = None
        self.error: Exception | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.begin()

    def begin(self) -> None:
        """Another answer is to come."""
        self.parser = httptools.HttpResponseParser(self)
        self.status, self.reason, self.length = 0, b"", -1
        self.headers: list[tuple[bytes, bytes]] = []
        self.head, self.begun, self.whole, self.keeps, self.chunked = 0, False, False, True, False
        self.pieces: deque[bytes] = deque()
        self.size = 0

    @property
    def open(self) -> bool:
        return self.error is None and not self.transport.is_closing()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self.buffered)

    def data_received(self, data: bytes) -> None:
        try:
            self.head += 0 if self.begun else len(data)
            self.parser.feed_data(data)
            if self.head > MOST_HEAD and not self.begun:
                raise httptools.HttpParserError("its head has no end")
        except (httptools.HttpParserError, httptools.HttpParserCallbackError) as error:
            self._fail(BrokenOff(f"no HTTP: {error}"))
            self.drop()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.begun and self.length < 0 and not self.chunked and exc is None:
            self.whole = True  # an answer without a length lasts as long as its connection
        self._fail(BrokenOff("the connection was ended"))
        # With TLS this is said late, when the descriptor may be another's already.
        if self.descriptor is not None and running().shares.get(self.descriptor) is self.share:
            running().share(self.descriptor, None)
            self.descriptor = None
        self.writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.begun:
            raise ValueError("a second answer, to no request")

    def on_status(self, status: bytes) -> None:
        self.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.begun:
            return  # a trailer
        self.headers.append((name, value))
        lowered = name.lower()
        if lowered == b"content-length":
            self.length = int(value)
        elif lowered == b"transfer-encoding":
            self.chunked = True
        elif lowered == b"connection":
            self.keeps = b"close" not in value.lower()

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        if self.status < 200:
            raise ValueError("an interim answer, which nobody asked for")
        self.begun = True
        if self.parser.get_http_version() == "1.0" or self.status >= 500:
            # It may be ended at any moment, whatever is said: uvicorn does so after what its application raised.
            self.keeps = False
        if self.status in BODYLESS:
            self.length = 0

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)
        if self.size > self.buffered:
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        self.whole = True

    # What the front calls.

    def serve(self, share: Share) -> None:
        """The next answer is for somebody of this share."""
        if self.open:
            self.descriptor, self.share = self.transport.get_extra_info("socket").fileno(), share
            running().share(self.descriptor, share)

    async def send(self, head: bytes, pieces: Iterable[bytes]) -> None:
        """Ask, and wait until the answer's headers are there.

        Raises:
            BrokenOff: they will not come.
        """
        self.transport.write(head)
        for piece in pieces:
            await self.writable.wait()
            if self.begun or self.error:
                break  # it answers without having heard all: it wants no more
            self.transport.write(piece)
        while not self.begun:
            await self._wait()

    async def read(self) -> bytes:
        """What has come; empty at the end.

        Raises:
            BrokenOff: the rest will not come.
        """
        while not self.pieces:
            if self.whole:
                return b""
            await self._wait()
        data = self.pieces.popleft() if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        if self.size > self.buffered and self.open:
            self.transport.resume_reading()
        self.size = 0
        return data

    async def read_all(self) -> bytes:
        """The whole of an answer that is known to be short."""
        data = bytearray()
        while piece := await self.read():
            data += piece
        return bytes(data)

    def drop(self) -> None:
        """End it; an engine that still works on the answer hears of it."""
        self.transport.abort()

    async def _wait(self) -> None:
        if self.error:
            raise self.error
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error

    def _wake(self) -> None:
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)
        self.waiter = None
