"""A front in the test's own loop, whose turns are counted, and the peers of an attack."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.integration.serving.certificates import trusting
from tests.integration.serving.run_front import KEY
from vmtool.serving.access_list import parse
from vmtool.serving.front import Engine, Front, Limits
from vmtool.serving.front.arrivals import Arrival
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.server import listen
from vmtool.serving.listening import listening_socket

PEERS = 60


class Attack:
    """A front in this very loop, and peers that are connected as far as the kernel is."""

    def __init__(self, directory: Path, more: str, peers: int) -> None:
        self.asked, self.done = threading.Event(), threading.Event()
        self.front = Front(Engine(directory / "engine.sock", 16 << 10), parse(f"{KEY}\n{more}".encode(), "the list"),
                           limits=Limits(), log=lambda line: None, ask_guest=self.ask_guest)
        self.listening = listening_socket(("127.0.0.1", 0))
        self.listening.listen(peers)
        self.peers = [socket.create_connection(self.listening.getsockname()) for _ in range(peers)]
        self.ca = directory / "ca"

    def ask_guest(self, _: bytes) -> None:
        """A device that takes its time."""
        self.asked.set()
        self.done.wait(60)

    async def secure(self) -> None:
        """The peers' handshakes."""
        context = trusting(self.ca)

        def shake() -> list[socket.socket]:
            return [context.wrap_socket(peer, server_hostname="localhost") for peer in self.peers]

        self.peers = await asyncio.to_thread(shake)

    def send(self, data: bytes) -> None:
        for peer in self.peers:
            peer.send(data)

    async def steps(self, measured: Callable[[], int], until: int) -> int:
        """The most that it grows by in one turn, on its way to there."""
        most, before = 0, measured()
        for _ in range(100 * PEERS):
            await asyncio.sleep(0)
            most, before = max(most, measured() - before), measured()
            if before >= until:
                return most
        raise AssertionError(f"{before} of {until}")

    def come(self) -> int:
        return len(self.front.crowd)

    def read(self) -> int:
        return sum(len(one.first) for one in self.front.crowd if isinstance(one, Arrival))

    def connections(self) -> list[Connection]:
        """Those that have sent something whole."""
        return [each for each in self.front.crowd if isinstance(each, Connection)]

    def heads(self, size: int) -> int:
        """Those of whose head so much was read."""
        return sum(each.inflow.head == size for each in self.connections())

    def bodies(self, size: int) -> int:
        return sum(each.inflow.after == size for each in self.connections())

    def answered(self) -> int:
        return sum(self.front.metrics.rows.values())


@contextlib.asynccontextmanager
async def attack(directory: Path, more: str = "", peers: int = PEERS) -> AsyncIterator[Attack]:
    one = Attack(directory, more, peers)
    listening = asyncio.create_task(listen(one.front, one.listening, one.front.limits, one.front.tls, one.front.crowd))
    try:
        yield one
    finally:
        one.done.set()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        for peer in one.peers:
            peer.close()
