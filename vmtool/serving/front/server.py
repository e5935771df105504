"""Listens: accepts connections, ends those that hold something for too long, stops on request."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from vmtool.serving.front.arrivals import Arrival, head_begun, hello_begun
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.crowd import Crowd, Peer
from vmtool.serving.front.door import Door
from vmtool.serving.front.front import Front
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.log import BoundedLog, Warnings
from vmtool.serving.front.manage import LIMITS_HERE, Manage
from vmtool.serving.front.tls import EncryptedConnection, Tls

BACKLOG = 256
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


class Handler(Protocol):
    """What answers requests."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse: ...


async def serve(front: Front, listening: socket.socket, log: Callable[[str], None] = print,
                manage: Manage | None = None, managed: socket.socket | None = None) -> None:
    """Serve HTTP on the socket until cancelled, and its host on another."""
    # What asyncio reads at once: its 256 KiB, for each connection, would be too many. A peer's connection has its own.
    asyncio.selector_events._SelectorSocketTransport.max_size = front.limits.buffered  # type: ignore[attr-defined]
    # What was imported stays; a collection that went through all of it would take 25 ms, in which nobody is served.
    gc.collect()
    gc.freeze()
    # What comes and goes leaves hardly a cycle: without any collection floods keep to the same memory. To look for some
    # as often as is usual (700, 10, 10) made others' p99 twice as long while a thousand connections were held.
    gc.set_threshold(10_000, 50, 50)
    complaints = Warnings(BoundedLog(log, front.limits.log_lines[1], "warnings"))
    logging.getLogger().addHandler(complaints)
    host, port = listening.getsockname()[:2]
    try:
        async with asyncio.TaskGroup() as listeners:
            listeners.create_task(listen(front, listening, front.limits, front.tls, front.crowd,
                                         lambda: log(f"the front listens on {host}:{port}")))
            if manage and managed:
                listeners.create_task(listen(manage, managed, LIMITS_HERE, front.tls))
    finally:
        front.engine.close()
        logging.getLogger().removeHandler(complaints)


async def listen(handler: Handler, listening: socket.socket, limits: Limits, tls: Tls | None,
                 crowd: Crowd[Peer] | None = None, listens: Callable[[], None] = lambda: None) -> None:
    """Accept connections, and end those that hold something for too long.

    Args:
        crowd: those that are open.
        listens: called once a peer can connect.
    """
    crowd = Crowd(limits) if crowd is None else crowd
    for level, option, value in OPTIONS:
        listening.setsockopt(level, option, value)
    loop = asyncio.get_running_loop()
    # A client that goes away cancels its request, and so vLLM stops generating for nobody.
    requests = web.Server(handler.handle, handler_cancellation=True)

    def protocol(arrival: Arrival) -> asyncio.BaseProtocol:
        connection = Connection(requests, crowd, limits, arrival)
        return EncryptedConnection(loop, connection, tls) if tls else connection

    listening.setblocking(False)
    listening.listen(BACKLOG)
    door = Door(listening, crowd, limits, hello_begun if tls else head_begun, protocol)
    door.open()
    listens()
    try:
        while True:
            due = loop.time() + SWEEP_SECONDS
            await asyncio.sleep(SWEEP_SECONDS)
            if loop.time() > due + SWEEP_SECONDS:
                continue  # a loop that is late has not yet heard what its peers sent in time
            for peer in [one for one in crowd if one.overdue(loop.time())]:
                if peer.overdue(loop.time()):
                    peer.drop()
                    await asyncio.sleep(0)  # many may be due at once
    finally:
        door.close()
        await requests.shutdown(STOP_SECONDS)
