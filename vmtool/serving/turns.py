"""An event loop that is shared: what many do in one turn of it is what everybody else waits for.

Sockets of one peer or client have a share, which gets one event in each turn, however many of them are ready: they are
in an epoll of their own, of which Linux gives the ready ones in turns. A share that is alone gets a few.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")
Epoll = select.epoll
Ready = list[tuple[selectors.SelectorKey, int]]
# Spare time is the turns in which the loop has nothing else to do; when there was none in so many, it is every turn.
PATIENCE = 8
# Events of a share that is alone; it is when there was no other for so many turns: a request takes some six.
ALONE, QUIET_TURNS = 8, 32


class Share:
    """Sockets that have one event together in each turn.

    Args:
        spare: they wait while the loop has something else to do, but not for long.
        within: it is a part of another share, whose events its parts have one after the other.
    """

    def __init__(self, *, spare: bool = False, within: Share | None = None) -> None:
        self.spare, self.within, self.lock, self.number, self.begun = spare, within, asyncio.Lock(), -1, 0
        # There while there are sockets to be listened to.
        self.epoll: Epoll | None = None
        self.sockets = 0

    async def turn(self) -> None:
        """Wait for a turn in which no more than its events has begun of this share."""
        if self.within:
            async with self.lock:  # one of a part waits for the whole at a time: others' parts are as soon there
                return await self.within.turn()
        turns = running()
        async with self.lock:
            while self.number == turns.number and self.begun >= turns.events(self):
                await asyncio.sleep(0)
            self.begun = self.begun + 1 if self.number == turns.number else 1
            self.number = turns.number
        return None


class Turns(selectors.BaseSelector):
    """epoll as asyncio uses it, in which sockets can have a share.

    Attributes:
        number: of the turn.
    """

    def __init__(self) -> None:
        self.number, self.busy = 0, 0
        # The share that had the last event, and the turn in which it was another.
        self.last: Share | None = None
        self.mixed = 0
        self.epoll = select.epoll()
        self.keys: dict[int, selectors.SelectorKey] = {}
        # By descriptor: its share, also while nobody listens to it; and the shares' own epolls.
        self.shares: dict[int, Share] = {}
        self.epolls: dict[int, Share] = {}

    def share(self, descriptor: int, share: Share | None) -> None:
        """From now on it has that share; none before it is closed, so that the next one of that number has none."""
        if self.shares.get(descriptor) is share:
            return
        key = self.keys.get(descriptor)
        if key:
            if share:
                self._open(share)  # first: when there are no descriptors, everything is as it was
            self.unregister(descriptor)
        if share:
            self.shares[descriptor] = share
        else:
            del self.shares[descriptor]
        if key:
            self.register(key.fileobj, key.events, key.data)

    def events(self, share: Share) -> int:
        """How many it may have in a turn."""
        return 1 if share.spare or self.number < self.mixed + QUIET_TURNS else ALONE

    # What asyncio calls.

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, _descriptor(fileobj), events, data)
        if key.fd in self.keys:
            raise KeyError(f"{key.fd} is registered already")
        share = self.shares.get(key.fd)
        if share:
            self._open(share)
        self._epoll(key.fd).register(key.fd, _mask(events))
        self.keys[key.fd] = key
        if share:
            share.sockets += 1
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self.keys.pop(_descriptor(fileobj))
        with contextlib.suppress(OSError):  # it may have been closed
            self._epoll(key.fd).unregister(key.fd)
        self._leave(self.shares.get(key.fd))
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        if events != key.events:
            self._epoll(key.fd).modify(key.fd, _mask(events))
        self.keys[key.fd] = changed = key._replace(events=events, data=data)
        return changed

    def select(self, timeout: float | None = None) -> Ready:
        """What is ready; asyncio gives no time when it has something else to do."""
        self.number += 1
        ready, spare = Ready(), list[Share]()
        wait = None if timeout is None else max(0, math.ceil(timeout * 1000)) / 1000
        for descriptor, event in self.epoll.poll(wait, len(self.keys) + 1):
            share = self.epolls.get(descriptor)
            if share is None:
                self._add(ready, descriptor, event)
            elif share.spare:
                spare.append(share)
            else:
                if share is not self.last:
                    self.last, self.mixed = share, self.number
                self._take(ready, share)
        self.busy = self.busy + 1 if ready or timeout == 0 else 0
        if not 0 < self.busy <= PATIENCE:
            for share in spare:
                self._take(ready, share)
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self.keys[_descriptor(fileobj)]

    def close(self) -> None:
        for share in self.epolls.values():
            if share.epoll:
                share.epoll.close()
        self.epoll.close()

    def _open(self, share: Share) -> None:
        if share.epoll:
            return
        if share.within:
            self._open(share.within)
        share.epoll = select.epoll()
        self.epolls[share.epoll.fileno()] = share
        around = (share.within and share.within.epoll) or self.epoll
        around.register(share.epoll, select.EPOLLIN)
        if share.within:
            share.within.sockets += 1

    def _leave(self, share: Share | None) -> None:
        """One socket less, or a part less."""
        if share and share.epoll:
            share.sockets -= 1
            if not share.sockets:
                del self.epolls[share.epoll.fileno()]
                share.epoll.close()
                share.epoll = None
                self._leave(share.within)

    def _epoll(self, descriptor: int) -> Epoll:
        share = self.shares.get(descriptor)
        return share.epoll if share and share.epoll else self.epoll

    def _take(self, ready: Ready, share: Share) -> None:
        if share.epoll:
            for descriptor, event in share.epoll.poll(0, self.events(share)):
                part = self.epolls.get(descriptor)
                if part:
                    self._take(ready, part)
                else:
                    self._add(ready, descriptor, event)

    def _add(self, ready: Ready, descriptor: int, event: int) -> None:
        # What is neither is an end or an error, which both ways show.
        if key := self.keys.get(descriptor):
            reads = selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
            writes = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
            ready.append((key, (reads | writes) & key.events))


class Loop(asyncio.SelectorEventLoop):
    """asyncio's, with shares."""

    def __init__(self) -> None:
        self.turns = Turns()
        super().__init__(self.turns)


def running() -> Turns:
    """The turns of the loop that runs."""
    return cast(Loop, asyncio.get_running_loop()).turns


def run(main: Coroutine[Any, Any, T], loop: type[Loop] = Loop) -> T:
    """As asyncio.run."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


def _descriptor(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()


def _mask(events: int) -> int:
    return (select.EPOLLIN if events & selectors.EVENT_READ else 0) | (
        select.EPOLLOUT if events & selectors.EVENT_WRITE else 0)
