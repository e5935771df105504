"""What those with a key can hold: requests that are being answered, and bodies in memory."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from vmtool.serving.front.clients import Client
from vmtool.serving.front.denied import Busy, Denied
from vmtool.serving.front.limits import Limits

if TYPE_CHECKING:
    from vmtool.serving.front.connection import Connection


# How long nothing new is answered after the host has said so: it says so again until it ends the server, and when it
# does not come to that, the server is open again.
CLOSED_SECONDS = 30.0


class Requests:
    """Counts the requests that are being answered, in all and for each client."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock, self.held = limits, clock, 0
        self.closed_until = -math.inf

    @property
    def closed(self) -> bool:
        """Whether nothing new is answered."""
        return self.clock() < self.closed_until

    def close(self) -> int:
        """From now on answer nothing new; how many requests are still being answered."""
        self.closed_until = self.clock() + CLOSED_SECONDS
        return self.held

    @contextlib.contextmanager
    def place(self, client: Client, connection: Connection) -> Iterator[None]:
        """Hold a place.

        Raises:
            Busy: there is none. Denied: the client has used up what it may, or the server is being stopped.
        """
        if self.closed:
            raise Denied(503, "this server is being stopped", {"Retry-After": f"{CLOSED_SECONDS:.0f}"})
        if len(client.running) >= self.limits.requests_per_key:
            raise Busy(429, f"this key has {self.limits.requests_per_key} requests in flight; wait for one to end")
        if self.held >= self.limits.requests:
            raise Busy(503, f"{self.limits.requests} requests are in flight; try again")
        client.admit()
        client.running.add(connection)
        self.held += 1
        try:
            yield
        finally:
            client.running.discard(connection)
            self.held -= 1


class Bodies:
    """The bytes of all bodies in memory; the long ones share a number, the short ones always have room."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    @contextlib.contextmanager
    def body(self, *, counted: bool = False) -> Iterator[RequestBody]:
        """Room for one request's body, until it is sent on, and at the latest until the request is answered."""
        body = RequestBody(self, min(self.limits.text, self.limits.body) if counted else self.limits.body)
        try:
            yield body
        finally:
            body.drop()


class RequestBody:
    """One request's body; one growing buffer, since each of many small pieces would cost more than its bytes."""

    def __init__(self, bodies: Bodies, limit: int) -> None:
        self.bodies, self.limit, self.data, self.held = bodies, limit, bytearray(), 0

    async def read(self, request: web.BaseRequest) -> None:
        """Take it from the client.

        Raises:
            Denied: too long, too slow, or broken off.
            Busy: there is no room for it at the moment.
        """
        announced, seconds = request.headers.get("Content-Length", "0"), self.bodies.limits.body_seconds
        self.hold(int(announced) if announced.isdecimal() else 0)
        try:
            if request.content.is_eof():  # as most do, it came with its head
                self.data += request.content.read_nowait()
                return
            async with asyncio.timeout(seconds):
                while piece := await request.content.readany():
                    self.hold(len(self.data) + len(piece))
                    self.data += piece
        except TimeoutError:
            raise Denied(408, f"the body took longer than {seconds:.0f} s") from None
        except (web.RequestPayloadError, aiohttp.ClientError):
            raise Denied(400, "the body is not what its headers say") from None

    def hold(self, size: int) -> None:
        """Make room for a body of that size."""
        limits, more = self.bodies.limits, size - self.held
        if size > self.limit:
            raise Denied(413, f"the body may have {self.limit} bytes")
        if size <= limits.small_body or more <= 0:
            return
        if self.bodies.held + more > limits.bodies:
            raise Busy(503, "too many long requests at once; try again")
        self.bodies.held += more
        self.held = size

    def pieces(self, size: int) -> Iterator[bytes]:
        """It bit by bit, and then it is no longer here: the answer may take long."""
        for at in range(0, len(self.data), size):
            yield bytes(self.data[at:at + size])
        self.drop()

    def drop(self) -> None:
        """Free what it holds."""
        self.bodies.held -= self.held
        self.held, self.data = 0, bytearray()
