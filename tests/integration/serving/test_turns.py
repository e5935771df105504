"""However many peers without a key do whatever they do: one turn of the event loop has one event of theirs.

What one turn does is what everybody else waits for, so turns are counted here, and no seconds.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.integration.serving.attacked import PEERS, Attack, attack
from tests.integration.serving.certificates import issue, lines
from tests.integration.serving.floods import GET, POST
from vmtool.serving import turns
from vmtool.serving.evidence.binding import PATH
from vmtool.serving.front import Limits, door
from vmtool.serving.front.crowd import Crowd, Peer
from vmtool.serving.front.server import listen


async def burst(one: Attack) -> None:
    assert await one.steps(one.come, PEERS) == 1


async def pieces(one: Attack) -> None:
    await one.steps(one.come, PEERS)
    for _ in range(3):
        before = one.read()
        one.send(b"GET /")
        assert await one.steps(one.read, before + 5 * PEERS) == 5


async def refused(one: Attack) -> None:
    """Whole requests, also those on connections that had one before."""
    for already in (0, PEERS):
        one.send(POST + b"\r\n")
        assert await one.steps(one.answered, already + PEERS) == 1


async def pieces_within_tls(one: Attack) -> None:
    await one.secure()
    await one.steps(lambda: len(one.connections()), PEERS)
    for sent in (5, 10):
        one.send(b"GET /")
        assert await one.steps(partial(one.heads, sent), PEERS) == 1


async def pieces_of_a_next_one(one: Attack) -> None:
    one.send(POST + b"\r\n")
    await one.steps(one.answered, PEERS)
    one.send(GET)

    assert len(one.connections()) == PEERS
    assert await one.steps(partial(one.heads, len(GET)), PEERS) == 1


async def a_body_that_nobody_wants(one: Attack) -> None:
    one.send(POST + b"Content-Length: 100000\r\n\r\n")
    await one.steps(one.answered, PEERS)
    for sent in (10, 20):
        one.send(b"x" * 10)
        assert await one.steps(partial(one.bodies, sent), PEERS) == 1


async def tiny_chunks(one: Attack) -> None:
    """Each of them costs a parser as much as a whole body does; a body made of them has no end that is waited for."""
    one.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    await one.steps(one.answered, PEERS)
    one.peers[0].send(b"1\r\nx\r\n" * 4000)
    seen = [0]
    while len(one.connections()) == PEERS:
        await asyncio.sleep(0)
        seen.append(max(each.inflow.after for each in one.connections()))
    assert max(now - before for before, now in pairwise(seen)) == one.front.limits.piece
    assert max(seen) <= 2 * one.front.limits.piece, "it is ended soon"


async def others_that_come_as_they_go(one: Attack) -> None:
    """A descriptor is a newcomer's before TLS has said its last of who had it."""
    await one.secure()
    await one.steps(lambda: len(one.connections()), PEERS)
    for peer in one.peers:
        socket.socket.shutdown(peer, socket.SHUT_RDWR)
    gone, one.peers = one.peers, [await asyncio.to_thread(socket.create_connection, one.listening.getsockname())
                                  for _ in range(PEERS)]
    while one.connections() or one.come() < PEERS:
        await asyncio.sleep(0)
    one.send(b"\x16\x03\x01")
    assert await one.steps(one.read, 3 * PEERS) == 3
    for peer in gone:
        peer.close()


async def a_device_that_takes_its_time(one: Attack) -> None:
    """Who waits for evidence is not ended for having shown no key meanwhile."""
    one.peers[0].send(b"GET " + PATH.encode() + b"?nonce=" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    while not one.asked.is_set():
        await asyncio.sleep(0.01)
    [waits] = one.connections()
    now, limits = asyncio.get_running_loop().time(), one.front.limits
    assert limits.evidence_seconds > limits.keyless_seconds
    assert [waits.overdue(now + seconds) for seconds in (limits.keyless_seconds + 1, limits.evidence_seconds + 1)] == [
        False, True]


WITHIN_TLS = (pieces_within_tls, others_that_come_as_they_go)


@pytest.mark.parametrize("scene", [burst, pieces, refused, pieces_of_a_next_one, a_body_that_nobody_wants, tiny_chunks,
                                   a_device_that_takes_its_time, pieces_within_tls,
                                   others_that_come_as_they_go])
def test_one_turn_has_one_event_of_peers_without_a_key(scene: Callable[[Attack], Awaitable[None]],
                                                       tmp_path: Path) -> None:
    async def run() -> None:
        async with attack(tmp_path, lines(issue(tmp_path / "ca")) if scene in WITHIN_TLS else "") as one:
            await scene(one)

    turns.run(run())


class Exhausted(socket.socket):
    """A listening socket for whose connections there are no descriptors."""

    calls, left = 0, False

    def accept(self) -> tuple[socket.socket, Any]:
        self.calls += 1
        if not self.left:
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


class Scarce:
    """epoll_create(2), for which there are no descriptors a few times."""

    def __init__(self) -> None:
        self.made, self.failing = select.epoll, 2

    def __call__(self) -> select.epoll:
        self.failing -= 1
        if self.failing >= 0:
            raise OSError(errno.EMFILE, "too many open files")
        return self.made()


def test_without_descriptors_nothing_is_tried_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PAUSE_SECONDS", 0.05)

    async def run() -> None:
        with Exhausted(socket.AF_INET, socket.SOCK_STREAM) as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            crowd: Crowd[Peer] = Crowd(Limits())
            with socket.create_connection(listening.getsockname()):
                handler = cast(Any, SimpleNamespace(handle=None))
                task = asyncio.create_task(listen(handler, listening, Limits(), None, crowd))
                while not listening.calls:
                    await asyncio.sleep(0)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert listening.calls == 1
                listening.left = True
                monkeypatch.setattr(select, "epoll", Scarce())  # others took what there was
                while not len(crowd):
                    await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    turns.run(asyncio.wait_for(run(), 30))
