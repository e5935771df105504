"""What those with a key can hold: requests that are being answered, and bodies in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import aiohttp
from aiohttp import web

from vmtool.serving.front.denied import Busy, Denied
from vmtool.serving.front.limits import Limits


class Requests:
    """Counts the requests that are being answered, in all and for each key."""

    def __init__(self, limits: Limits, keys: int) -> None:
        self.limits = limits
        self.of_key = [0] * keys

    @contextlib.contextmanager
    def place(self, key: int) -> Iterator[None]:
        """Hold a place.

        Raises:
            Busy: there is none.
        """
        if self.of_key[key] >= self.limits.requests_per_key:
            raise Busy(429, f"this key has {self.limits.requests_per_key} requests in flight; wait for one to end")
        if sum(self.of_key) >= self.limits.requests:
            raise Busy(503, f"{self.limits.requests} requests are in flight; try again")
        self.of_key[key] += 1
        try:
            yield
        finally:
            self.of_key[key] -= 1


class Bodies:
    """The bytes of all bodies in memory; the long ones share a number, the short ones always have room."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One body's share; it is called with the body's size so far, or to be.

        Raises:
            Denied: the body is too long.
            Busy: there is no room for it at the moment.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if size > self.limits.body:
                raise Denied(413, f"the body may have {self.limits.body} bytes")
            more = size - held
            if size <= self.limits.small_body or more <= 0:
                return
            if self.held + more > self.limits.bodies:
                raise Busy(503, "too many long requests at once; try again")
            self.held += more
            held = size

        try:
            yield hold
        finally:
            self.held -= held


async def read_body(request: web.BaseRequest, hold: Callable[[int], None], seconds: float) -> bytearray:
    """A request's body; one growing buffer, since each of many small pieces would cost more than its bytes.

    Raises:
        Denied: too long, too slow, or broken off.
    """
    announced = request.headers.get("Content-Length", "0")
    hold(int(announced) if announced.isdecimal() else 0)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while piece := await request.content.readany():
                hold(len(body) + len(piece))
                body += piece
    except TimeoutError:
        raise Denied(408, f"the body took longer than {seconds:.0f} s") from None
    except (web.RequestPayloadError, aiohttp.ClientError):
        raise Denied(400, "the body is not what its headers say") from None
    return body
