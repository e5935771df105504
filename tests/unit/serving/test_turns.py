"""An event loop with shares: who has many sockets gets no more of a turn than who has one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmtool.serving import turns
from vmtool.serving.turns import ALONE, PATIENCE, QUIET_TURNS, Share, running


class Sockets:
    """Some that always have something to read, and how often each was listened to."""

    def __init__(self, count: int, share: Share | None) -> None:
        self.pairs = [socket.socketpair() for _ in range(count)]
        self.heard = dict.fromkeys(range(count), 0)
        for number, (near, far) in enumerate(self.pairs):
            far.send(b"x")
            running().share(near.fileno(), share)
            asyncio.get_running_loop().add_reader(near.fileno(), self.hear, number)

    def hear(self, number: int) -> None:
        self.heard[number] += 1

    @property
    def all(self) -> int:
        return sum(self.heard.values())


@contextlib.contextmanager
def sockets(count: int, share: Share | None) -> Iterator[Sockets]:
    made = Sockets(count, share)
    try:
        yield made
    finally:
        for near, far in made.pairs:
            asyncio.get_running_loop().remove_reader(near.fileno())
            running().share(near.fileno(), None)
            near.close()
            far.close()


async def turn(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_who_has_many_sockets_gets_as_much_of_a_turn_as_who_has_one() -> None:
    async def run() -> None:
        with sockets(40, Share()) as many, sockets(1, Share()) as one, sockets(2, None) as others:
            await turn(1)
            before = many.all, one.all, others.all
            await turn(40)
            assert (many.all - before[0], one.all - before[1], others.all - before[2]) == (40, 40, 80)
            assert set(many.heard.values()) <= {1, 2}, "each in its turn"

    turns.run(run())


def test_a_share_that_is_alone_gets_a_few_and_gives_them_up_for_another() -> None:
    async def run() -> None:
        with sockets(40, Share()) as many:
            await turn(QUIET_TURNS + 1)
            before = many.all
            await turn()
            assert many.all - before == ALONE
            with sockets(1, Share()):
                await turn(2)
                before = many.all
                await turn(5)
                assert many.all - before == 5

    turns.run(run())


def test_parts_of_a_share_have_its_events_one_after_the_other() -> None:
    async def run() -> None:
        keyless = Share(spare=True)
        many_of_one, one_of_another = Share(spare=True, within=keyless), Share(spare=True, within=keyless)
        with sockets(40, many_of_one) as many:
            with sockets(1, one_of_another) as one:
                await turn(PATIENCE + 1)
                before = many.all, one.all
                await turn(20)
                assert sum((many.all - before[0], one.all - before[1])) == 20, "as if they were no parts"
                assert 9 <= one.all - before[1] <= 11, "whose socket is alone waits for one other"
                begun = []
                for part in (many_of_one, one_of_another):
                    await part.turn()
                    begun.append(running().number)
                assert begun[0] < begun[1], "nor do they begin requests in one turn"
            before_alone = many.all
            await turn(20)
            assert many.all - before_alone == 20
        assert keyless.epoll is None and not running().epolls, "nothing is left of them"

    turns.run(run())


def test_many_of_one_part_wait_for_the_whole_one_at_a_time() -> None:
    async def run() -> None:
        keyless, order = Share(spare=True), list[str]()
        parts = {name: Share(spare=True, within=keyless) for name in ("many", "one")}

        async def wait(name: str) -> None:
            await parts[name].turn()
            order.append(name)

        await asyncio.gather(*(wait("many") for _ in range(50)), wait("one"))
        assert order.index("one") < 3

    turns.run(run())


def test_what_may_wait_is_done_in_spare_time_or_else_after_a_while() -> None:
    async def run() -> None:
        with sockets(3, Share(spare=True)) as peers:
            await turn(PATIENCE)
            assert peers.all == 0
            await turn(10)
            assert 9 <= peers.all <= 10
            loop, heard = asyncio.get_running_loop(), peers.all
            later = loop.create_future()
            loop.call_later(0.01, later.set_result, None)
            await later
            assert peers.all > heard, "the loop had nothing else to do"

    turns.run(run())


def test_what_has_begun_of_a_share_in_one_turn_is_bounded() -> None:
    begun = list[int]()

    async def begin(share: Share) -> None:
        await share.turn()
        begun.append(running().number)

    async def run() -> None:
        share = Share()
        with sockets(1, Share()), sockets(1, Share()):  # others are there
            await turn(2)
            await asyncio.gather(*(begin(share) for _ in range(20)))

    turns.run(run())
    assert len(set(begun)) == 20


def test_a_socket_that_is_not_listened_to_keeps_its_share_until_it_is_given_up() -> None:
    async def run() -> None:
        loop, share, waits = asyncio.get_running_loop(), Share(spare=True), Share(spare=True)
        with sockets(1, share) as one:
            near = one.pairs[0][0].fileno()
            descriptors = len(os.listdir(Path("/proc/self/fd")))
            loop.remove_reader(near)
            assert len(os.listdir(Path("/proc/self/fd"))) == descriptors - 1, "a share without sockets has no epoll"
            loop.add_reader(near, one.hear, 0)
            loop.add_writer(near, lambda: None)
            assert (share.sockets, waits.sockets) == (1, 0)
            running().share(near, waits)
            assert (share.sockets, waits.sockets) == (0, 1)
            running().share(near, None)
            assert (share.sockets, waits.sockets) == (0, 0)
            await turn(2)
            assert one.all
            loop.remove_writer(near)

    turns.run(run())


def test_a_socket_that_is_listened_to_twice_is_an_error() -> None:
    async def run() -> None:
        with sockets(1, None) as one, pytest.raises(KeyError, match="registered already"):
            running().register(one.pairs[0][0], 1)

    turns.run(run())


def test_without_descriptors_a_socket_keeps_the_share_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise OSError("too many open files")

    async def main() -> None:
        with sockets(1, Share()) as made:
            [(near, _)] = made.pairs
            monkeypatch.setattr(select, "epoll", none)
            with pytest.raises(OSError, match="too many"):
                running().share(near.fileno(), Share())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert made.heard[0] > 0

    turns.run(main())
