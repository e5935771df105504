"""Connections to a server that are kept for the next request."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

from vmtool.serving.front.rooms import RequestBody
from vmtool.serving.front.upstream import Upstream
from vmtool.serving.turns import Share

PIECE = 64 << 10


class NotUp(ConnectionError):
    """Nobody listens there."""


class Pool:
    """Asks one request after the other on each connection.

    Args:
        dial: makes a connection.
        host: of the requests' Host header.
        keep: seconds that a connection is kept: less than the server does, so that no request meets its end.
    """

    def __init__(self, dial: Callable[[], Awaitable[Upstream]], host: str, keep: float) -> None:
        self.dial, self.host, self.keep, self.share = dial, host, keep, Share()
        # With the moment from which each was idle; the newest is taken first.
        self.idle: list[tuple[float, Upstream]] = []

    def close(self) -> None:
        """End those that wait for a request."""
        for _, connection in self.idle:
            connection.drop()
        self.idle.clear()

    @contextlib.asynccontextmanager
    async def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None,
                  body: RequestBody | None = None, share: Share | None = None) -> AsyncIterator[Upstream]:
        """One request: the answer as soon as its headers are there. It is ended when it is not taken to its end.

        Args:
            share: whose turns the answer takes.

        Raises:
            NotUp: nobody listens. ConnectionError: it broke off.
        """
        connection = await self._connection()
        connection.serve(share or self.share)
        try:
            head, pieces = written(method, target, self.host, headers or {}, body)
            await connection.send(head, pieces)
            yield connection
        finally:
            if connection.whole and connection.keeps and connection.open:
                self.idle.append((time.monotonic(), connection))
            else:
                connection.drop()

    async def _connection(self) -> Upstream:
        fresh = time.monotonic() - self.keep
        while self.idle:
            since, kept = self.idle.pop()
            if kept.open and since > fresh:
                kept.begin()
                return kept
            kept.drop()
        return await self.dial()


def written(method: str, target: str, host: str, headers: Mapping[str, str],
            body: RequestBody | None = None) -> tuple[bytes, Iterable[bytes]]:
    """The bytes of a request: what comes at once, and what comes bit by bit."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    size = len(body.data) if body else 0
    length = f"Content-Length: {size}\r\n" if size else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}{length}\r\n".encode("ascii")
    if body is None or size <= PIECE:
        return head + (bytes(body.data) if body else b""), ()
    # In one piece the transport would copy what the socket does not take at once.
    return head, body.pieces(PIECE)
