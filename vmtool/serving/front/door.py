"""Where peers come in: all that have shown no key together get one event in each turn of the event loop.

However many they are, they hold up nobody who has one. They wait in an epoll of their own, of which Linux gives the
ready ones in turns.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Protocol, cast

from vmtool.serving.front.arrivals import Arrival
from vmtool.serving.front.crowd import Crowd, Peer
from vmtool.serving.front.limits import Limits

# When there are no descriptors or no memory for one more.
PAUSE_SECONDS = 1.0


class Entered(Protocol):
    """What an arrival becomes: one of asyncio's protocols."""

    def begin(self, first: bytes) -> None:
        """Take what has come before."""
        ...


class Door:
    """Accepts connections, one in each turn of the event loop, and gives one peer without a key its turn.

    Args:
        begun: whether so much has come that a protocol can begin with it, or refuse it; asked with all that has come,
            and how much of it was there when it was asked last.
        protocol: made for an arrival of which that is true.
    """

    def __init__(self, listening: socket.socket, crowd: Crowd[Peer], limits: Limits,
                 begun: Callable[[bytearray, int], bool], protocol: Callable[[Arrival], asyncio.BaseProtocol]) -> None:
        self.listening, self.crowd, self.limits = listening, crowd, limits
        self.begun, self.protocol = begun, protocol
        self.loop = asyncio.get_running_loop()
        self.ready, self.waiting = select.epoll(), dict[int, Callable[[], None]]()
        self.pause: asyncio.TimerHandle | None = None
        self.entering: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self.loop.add_reader(self.ready, self._turn)
        self.loop.add_reader(self.listening, self._accept)

    def close(self) -> None:
        """Accept no more, end those that have sent nothing whole, and read no others without a key."""
        self.loop.remove_reader(self.listening)
        self.loop.remove_reader(self.ready)
        if self.pause:
            self.pause.cancel()
        for peer in self.crowd:
            if isinstance(peer, Arrival):
                peer.drop()
        self.listening.close()

    def watch(self, sock: socket.socket, read: Callable[[], None]) -> None:
        """Call this in its turn, whenever something has come."""
        if sock.fileno() not in self.waiting:
            self.ready.register(sock, select.EPOLLIN)
        self.waiting[sock.fileno()] = read

    def forget(self, sock: socket.socket) -> None:
        """It is not looked at any more; harmless when it was not."""
        if self.waiting.pop(sock.fileno(), None):
            self.ready.unregister(sock)

    def enter(self, arrival: Arrival) -> None:
        """It has begun as a client does."""
        self.forget(arrival.sock)
        task = self.loop.create_task(self._enter(arrival))
        self.entering.add(task)
        task.add_done_callback(self.entering.discard)

    async def _enter(self, arrival: Arrival) -> None:
        try:
            wire, protocol = await self.loop.connect_accepted_socket(lambda: self.protocol(arrival), arrival.sock)
        except OSError:  # it went before it was there
            self.crowd.leave(arrival)
            arrival.sock.close()
            return
        # The transport has read nothing yet: what it reads comes in the loop's next turn at the earliest.
        first, arrival.first = bytes(arrival.first), bytearray()
        if not wire.is_closing():
            cast(Entered, protocol).begin(first)

    def _turn(self) -> None:
        for descriptor, _ in self.ready.poll(0, 1):
            self.waiting[descriptor]()

    def _accept(self) -> None:
        try:
            sock, peer = self.listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError:
            self.loop.remove_reader(self.listening)
            self.pause = self.loop.call_later(PAUSE_SECONDS, self.loop.add_reader, self.listening, self._accept)
            return
        sock.setblocking(False)
        arrival = Arrival(self, sock, peer[0])
        self.watch(sock, arrival.read)
        if leaver := self.crowd.admit(arrival):
            leaver.drop()
