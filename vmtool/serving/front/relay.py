"""Passes an answer on to the client that waits for it, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

from aiohttp import web

from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import Denied
from vmtool.serving.front.form import passed_back
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.upstream import Upstream


class Passing(Protocol):
    """Who looks on while an answer passes."""

    def open(self, reply: Upstream) -> AbstractContextManager[None]: ...
    def see(self, chunk: bytes) -> None: ...
    def close(self) -> None: ...
    def headers(self) -> Mapping[str, str]: ...


async def forward(request: web.BaseRequest, connection: Connection, asked: AbstractAsyncContextManager[Upstream],
                  passing: Passing, limits: Limits, explain: Callable[[Exception], Denied]) -> web.StreamResponse:
    """Ask, and pass on what is answered.

    Args:
        explain: the answer to a client when the server gives none.

    Raises:
        Denied: no answer has begun. OSError, TimeoutError: it broke off, and so does the client's connection.
    """
    try:
        async with asyncio.timeout(limits.engine_seconds) as clock, asked as reply:
            with passing.open(reply):
                return await _relay(request, connection, reply, clock, passing, limits)
    except (OSError, TimeoutError) as error:
        if request.writer.output_size > 0:  # an answer that ends here must not look whole
            connection.drop()
            raise
        raise explain(error) from None


async def _relay(request: web.BaseRequest, connection: Connection, reply: Upstream, clock: asyncio.Timeout,
                 passing: Passing, limits: Limits) -> web.StreamResponse:
    """Bit by bit, so that server-sent events are not held back."""
    headers, reason = passed_back(reply.headers), reply.reason.decode("latin-1")
    if 0 <= reply.length < limits.buffered:
        # A short answer in one packet: head and body apart would be two.
        headers.popall("Content-Length", None)
        passing.see(body := await reply.read_all())
        passing.close()
        headers.update(passing.headers())
        return web.Response(status=reply.status, reason=reason, headers=headers, body=body)
    now = asyncio.get_running_loop().time
    headers.update(passing.headers())
    response = web.StreamResponse(status=reply.status, reason=reason, headers=headers)
    connection.last(response)
    await response.prepare(request)
    while chunk := await reply.read():
        clock.reschedule(now() + limits.reader_seconds)
        passing.see(chunk)
        await response.write(chunk)
        del chunk  # it waits in the transport's buffer
        await request.writer.drain()
        clock.reschedule(now() + limits.engine_seconds)
    passing.close()
    await response.write_eof()
    return response
