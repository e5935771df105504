"""While its request waits, a peer without a key is not read on and on; and it is read again when there is room."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.integration.serving.attacked import Attack, attack
from tests.integration.serving.certificates import issue, lines
from tests.integration.serving.floods import KEYED
from tests.integration.serving.processes import BEARER
from vmtool.serving import turns
from vmtool.serving.evidence.binding import PATH
from vmtool.serving.front import connection as front_connection
from vmtool.serving.front.connection import Connection

# This many turns in which nothing more can be sent are a standstill.
STANDSTILL, ENOUGH = 200, 1 << 20
EVIDENCE = b"GET " + PATH.encode() + b"?nonce=" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\n"
BODY = b"x" * 100_000
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)


class Peer:
    """One that sends as fast as it is taken, and what the front has of it."""

    def __init__(self, one: Attack, number: int = 0) -> None:
        self.one, self.sock = one, one.peers[number]
        self.sock.setblocking(False)

    async def asks(self, sent: bytes) -> Connection:
        self.sock.send(sent)
        while not (asking := [each for each in self.one.connections() if each.request]):
            await asyncio.sleep(0)
        return asking[0]

    def sends(self, data: bytes) -> int:
        with contextlib.suppress(ssl.SSLWantWriteError, BlockingIOError):
            return self.sock.send(data)
        return 0

    async def received(self) -> bytes:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
                return self.sock.recv(1 << 16)
            await asyncio.sleep(0)


def tls(connection: Connection) -> Any:
    """asyncio's TLS of a peer, None without."""
    return getattr(connection.transport, "_ssl_protocol", None)


def kept(connection: Connection) -> int:
    """What waits to be parsed, and what aiohttp has of a head or a body that nobody has taken."""
    unread = tls(connection)._incoming.pending if tls(connection) else 0
    return cast(int, unread + connection.inflow.head + connection.inflow.after)


async def requests_ahead(peer: Peer) -> int:
    """aiohttp takes no more of them than 32."""
    connection = await peer.asks(EVIDENCE + b"\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 40)
    return await flooded(peer, connection)


async def a_body(peer: Peer) -> int:
    connection = await peer.asks(EVIDENCE + b"Content-Length: 99999999\r\n\r\n")
    return await flooded(peer, connection)


async def flooded(peer: Peer, connection: Connection) -> int:
    """The most that it keeps, until it takes no more."""
    most, still = 0, 0
    while still < STANDSTILL and most < ENOUGH:
        still = 0 if peer.sends(b"x" * (16 << 10)) else still + 1
        await asyncio.sleep(0)
        most = max(most, kept(connection))
    return most


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("scene", [requests_ahead, a_body])
def test_what_comes_while_a_request_waits_is_not_piled_up(scene: Callable[[Peer], Awaitable[int]], secure: bool,
                                                          tmp_path: Path) -> None:
    async def run() -> None:
        async with attack(tmp_path, lines(issue(tmp_path / "ca")) if secure else "", peers=1) as one:
            if secure:
                await one.secure()
            assert await scene(Peer(one)) <= 5 * one.front.limits.buffered

    turns.run(run())


def test_who_shows_a_key_is_answered_when_all_questions_without_one_are_used_up(tmp_path: Path) -> None:
    """So peers that ask for evidence without end do not keep the host from asking for it."""
    async def run() -> None:
        async with attack(tmp_path, "", peers=2) as one:
            one.done.set()
            # Those of the next minute as well: on a busy machine one is there again before the peer asks.
            one.front.evidence.all.take(2 * one.front.limits.evidence)
            for number, (key, status) in enumerate(((b"", b"429"), (BEARER.encode(), b"200"))):
                peer = Peer(one, number)
                peer.sock.send(EVIDENCE + key + b"\r\n")
                assert (await peer.received()).startswith(b"HTTP/1.1 " + status)

    turns.run(asyncio.wait_for(run(), 60))


# There is no engine here.
@pytest.mark.parametrize(("asked", "answer"), [(EVIDENCE, b"HTTP/1.1 200 "), (KEYED, b"HTTP/1.1 503 ")],
                         ids=["without a key", "with a key"])
def test_what_waits_within_tls_is_read_when_there_is_room(asked: bytes, answer: bytes, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_connection, "LINGER_SECONDS", 60.0)

    async def run() -> None:
        async with attack(tmp_path, lines(issue(tmp_path / "ca")), peers=1) as one:
            await one.secure()
            peer = Peer(one)
            connection = await peer.asks(asked + LENGTH)
            wire, rest = cast(asyncio.Transport, connection.transport), BODY
            wire.pause_reading()
            while not tls(connection)._ssl_reading_paused or rest:
                rest = rest[peer.sends(rest):] if rest else rest
                await asyncio.sleep(0)
            for _ in range(STANDSTILL):
                await asyncio.sleep(0)
            assert tls(connection)._incoming.pending < 3 * one.front.limits.buffered
            assert connection.inflow.after == 0
            wire.resume_reading()
            one.done.set()
            assert (await peer.received()).startswith(answer)
            while connection.inflow.content and connection.inflow.after < len(BODY):
                await asyncio.sleep(0)

    turns.run(asyncio.wait_for(run(), 60))
