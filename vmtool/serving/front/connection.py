"""One TCP connection of a peer: aiohttp's HTTP, with bounds on what the peer sends and how long it takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Iterator

from aiohttp import web

from vmtool.serving.evidence.binding import NO_KEY
from vmtool.serving.front.arrivals import LEAVING_SECONDS, TOO_LONG, Arrival
from vmtool.serving.front.crowd import Crowd, Peer
from vmtool.serving.front.denied import Denied
from vmtool.serving.front.inflow import Inflow
from vmtool.serving.front.limits import Limits
from vmtool.serving.turns import Share, running

# What a peer still sends of a body that nobody wants is read for that long, so that it sees the answer.
LINGER_SECONDS = 2.0
# aiohttp's own logger would write a traceback, with what the peer sent, for every bad request.
SILENT = logging.Logger("vmtool.front.silent", logging.CRITICAL + 1)


class Connection(web.RequestHandler):
    """What aiohttp does not bound by itself: the bytes of a whole head, the time it takes, and what comes ahead.

    Args:
        server: aiohttp's, which has the handler of requests.
        crowd: all open connections.
        arrival: what it was until now, and what it has sent.
    """

    __slots__ = ("address", "arrival", "crowd", "host", "inflow", "key", "limits", "piece", "request",
                 "share", "until", "wire")

    def __init__(self, server: web.Server, crowd: Crowd[Peer], limits: Limits, arrival: Arrival) -> None:
        # Idle connections are ended by `overdue`, hence aiohttp's own time is longer. The socket has its options.
        super().__init__(server, loop=asyncio.get_running_loop(), keepalive_timeout=2 * limits.idle_seconds,
                         lingering_time=LINGER_SECONDS, tcp_keepalive=False, logger=SILENT,
                         access_log=None, auto_decompress=False, read_bufsize=limits.buffered)  # type: ignore[arg-type]
        self.crowd, self.limits, self.arrival = crowd, limits, arrival
        self.address, self.host, self.until = arrival.address, arrival.host, arrival.until
        self.key = NO_KEY  # the digest of the TLS key that this peer has seen
        self.wire: asyncio.Transport | None = None
        # With whom it shares its turns: those without a key, or those with the key that it has shown last.
        self.share = arrival.share
        self.inflow, self.piece = Inflow(limits.head), limits.piece
        self.request: web.BaseRequest | None = None

    def enter(self, wire: asyncio.Transport) -> None:
        """The peer has a transport; with TLS its handshake is yet to come."""
        self.wire = wire
        self._read_by(self.limits.piece)
        if not self.crowd.replace(self.arrival, self):
            wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        entered, self.wire = self.wire is not None, self.transport
        if self.wire:
            self.wire.set_write_buffer_limits(high=self.limits.buffered)
        if self.wire and not entered:
            self.enter(self.wire)

    def begin(self, first: bytes) -> None:
        self.data_received(first)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.gone()
        super().connection_lost(exc)

    def gone(self) -> None:
        """The peer is there no more. With TLS this is said once more, when the descriptor may be another peer's."""
        self.crowd.leave(self)
        if self.wire:
            running().share(self.arrival.descriptor, None)
        self.wire = None

    def data_received(self, data: bytes) -> None:
        if not data or self.inflow.fits(data):
            super().data_received(data)
            if not self.inflow.framed():
                self.drop()
            elif self.request:
                self._check_body(self.request)
        elif self.wire:
            if self.request is None:
                self.wire.write(TOO_LONG)
            self.until = asyncio.get_running_loop().time() + self.limits.closing_seconds
            self.force_close()

    def drop(self) -> None:
        """End it now; what was not sent yet is lost."""
        self.force_close()
        if self.wire:
            self.wire.abort()

    def overdue(self, now: float) -> bool:
        return now > self.until

    @contextlib.contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """While a request is answered its body may come, and a next request of a head's length."""
        self.request = request
        self.inflow.begin(request.content)
        if request.content_length:
            self._read_by(self.limits.buffered)
        self._check_body(request)
        try:
            yield
        finally:
            self.request = None
            self._read_by(self.limits.piece)
            self.crowd.rest(self)
            wait = self.limits.idle_seconds if self in self.crowd.idle else self.limits.keyless_seconds
            if not self.inflow.end():
                wait = self.limits.closing_seconds
            if self.crowd.leaving:
                wait = min(wait, LEAVING_SECONDS)
            self.until = asyncio.get_running_loop().time() + wait

    def leave(self, now: float) -> None:
        """A next request is not wanted: what waits for one is ended in a while, since one may be on its way."""
        self.until = min(self.until, now + LEAVING_SECONDS) if self.request is None else self.until

    def show_key(self, share: Share) -> None:
        """The request being answered has a valid key: now its own deadlines count, and its turns are that key's."""
        self._join(share)
        self.crowd.serve(self)
        self.until = math.inf

    def show_none(self) -> None:
        """It has none, or one that is not valid any more."""
        self._join(self.arrival.share)

    def _read_by(self, piece: int) -> None:
        self.piece = piece
        if self.wire:
            # asyncio's own number of bytes, which is the same for all, is 256 KiB.
            self.wire.max_size = piece  # type: ignore[attr-defined]

    def _join(self, share: Share) -> None:
        self.share = share
        if self.wire:
            running().share(self.arrival.descriptor, share)

    def one_by_one(self, response: web.Response) -> web.Response:
        """Without a key nobody is served several requests at once: the first answer is the last."""
        if self.inflow.ahead:
            response.force_close()
        return response

    def last(self, response: web.StreamResponse) -> None:
        """When the front takes leave, each answer says that it is the last on its connection."""
        if self.crowd.leaving:
            response.force_close()

    def handle_error(self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None,
                     message: str | None = None) -> web.StreamResponse:
        """What is no HTTP, or a fault of the front itself: never with what the peer sent."""
        if request.writer.output_size > 0:
            self.drop()
            raise ConnectionError("the answer has begun")
        if status >= 500:
            logging.getLogger("vmtool.front").error("a fault of the front", exc_info=exc)
        text = "a fault of the front itself" if status >= 500 else "this is no valid HTTP request"
        response = Denied(status, text).response()
        response.force_close()
        return response

    def _check_body(self, request: web.BaseRequest) -> None:
        # aiohttp queues what is wrong with a body behind the request that waits for the body.
        if self._messages and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the body's framing is wrong"))
