"""Listens: accepts connections, ends those that hold something for too long, stops when it is told."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from aiohttp import web

from vmtool.serving.front.connection import Connection
from vmtool.serving.front.crowd import Crowd
from vmtool.serving.front.front import Front
from vmtool.serving.front.log import BoundedLog, Warnings

BACKLOG = 256
# Accepted at once; a burst of connections would else hold up everybody who has one.
ACCEPTS = 8
SWEEP_SECONDS = 1.0
STOP_SECONDS = 2.0
# Set on the listening socket, from which each accepted one has them. A peer that has gone without a word is noticed
# by probes, or by what it does not acknowledge; the kernel's buffers are bounded like the front's own.
OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3), (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10), (socket.SOL_SOCKET, socket.SO_SNDBUF, 128 << 10),
)


async def serve(front: Front, listening: socket.socket, log: Callable[[str], None] = print) -> None:
    """Serve HTTP on the socket until cancelled."""
    # What asyncio reads at once, of peers and of the engine: its 256 KiB, for each connection, would be too many.
    asyncio.selector_events._SelectorSocketTransport.max_size = front.limits.buffered  # type: ignore[attr-defined]
    for level, option, value in OPTIONS:
        listening.setsockopt(level, option, value)
    complaints = Warnings(BoundedLog(log, front.limits.log_lines[1], "warnings"))
    logging.getLogger().addHandler(complaints)
    loop = asyncio.get_running_loop()
    crowd: Crowd[Connection] = Crowd(front.limits)
    # A client that goes away cancels its request, and so vLLM stops generating for nobody.
    requests = web.Server(front.handle, handler_cancellation=True)
    accepting = await loop.create_server(lambda: Connection(requests, crowd, front.limits, loop), sock=listening,
                                         backlog=ACCEPTS)
    listening.listen(BACKLOG)  # asyncio has one number for both
    try:
        while True:
            due = loop.time() + SWEEP_SECONDS
            await asyncio.sleep(SWEEP_SECONDS)
            if loop.time() > due + SWEEP_SECONDS:
                continue  # a loop that is late has not yet heard what its peers sent in time
            for connection in [one for one in crowd if one.overdue(loop.time())]:
                connection.drop()
    finally:
        accepting.close()
        await requests.shutdown(STOP_SECONDS)
        front.engine.close()
        logging.getLogger().removeHandler(complaints)
