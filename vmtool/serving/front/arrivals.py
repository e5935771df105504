"""Peers that have shown no key: all of them together get one event in each turn of the event loop.

However many they are, they hold up nobody who has one. They wait in an epoll of their own, of which Linux gives the
ready ones in turns. Until a whole head is there, or with TLS a whole hello, they are bare sockets: most of what an
attacker sends never gets further, and costs a third of what asyncio's transport and aiohttp's parser, task and timer
would.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
from collections.abc import Callable
from typing import Protocol, cast

from vmtool.serving.front.crowd import Crowd, Peer, address_group
from vmtool.serving.front.limits import Limits

TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# How long a connection waits for one more request when the front takes leave: who asks often hears of it with the
# answer, and asks again on another connection; who asks seldom has closed it by himself (OpenAI's clients after 5 s).
LEAVING_SECONDS = 6.0
# When there are no descriptors or no memory for one more.
PAUSE_SECONDS = 1.0
BLANK_LINE = re.compile(rb"\n\r?\n")
HANDSHAKE, RECORD_HEAD, LONGEST_RECORD = 22, 5, (16 << 10) + 256


class Entered(Protocol):
    """What an arrival becomes: one of asyncio's protocols."""

    def begin(self, first: bytes) -> None:
        """Take what has come before."""
        ...


class Arrival:
    """One peer, of which nothing is kept but what it has sent so far.

    Attributes:
        until: when it is ended.
        first: what it has sent.
        entering: the door gives it to a protocol, which takes its place in the crowd.
    """

    __slots__ = ("address", "door", "entering", "first", "host", "sock", "until")

    def __init__(self, door: Door, sock: socket.socket, host: str) -> None:
        self.door, self.sock, self.host, self.address = door, sock, host, address_group(host)
        self.until, self.entering = door.loop.time() + door.limits.keyless_seconds, False
        self.first = bytearray()

    def overdue(self, now: float) -> bool:
        return now > self.until

    def leave(self, now: float) -> None:
        """The front takes leave."""
        self.until = min(self.until, now + LEAVING_SECONDS)

    def drop(self) -> None:
        """End it now; one that is entering finds that it has no place any more."""
        self.door.crowd.leave(self)
        if not self.entering:
            self.door.forget(self.sock)
            self.sock.close()

    def read(self) -> None:
        """Something has come, or its end."""
        try:
            data = self.sock.recv(self.door.limits.buffered)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self.first += data
        if not data:
            self.drop()
        elif self.door.begun(self.first):
            self.entering = True
            self.door.enter(self)
        elif len(self.first) > self.door.limits.head:
            with contextlib.suppress(OSError):
                self.sock.send(TOO_LONG)
            self.drop()


class Door:
    """Accepts connections, one in each turn of the event loop, and gives one peer without a key its turn.

    Args:
        begun: whether so much has come that a protocol can begin with it, or refuse it.
        protocol: made for an arrival of which that is true.
    """

    def __init__(self, listening: socket.socket, crowd: Crowd[Peer], limits: Limits,
                 begun: Callable[[bytearray], bool], protocol: Callable[[Arrival], asyncio.BaseProtocol]) -> None:
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


def head_begun(first: bytearray) -> bool:
    """Whether a request's head is whole; what is no HTTP is not waited for."""
    text = first.lstrip(b"\r\n")
    return bool(text) and (not text[:1].isalpha() or BLANK_LINE.search(text) is not None)


def hello_begun(first: bytearray) -> bool:
    """Whether the first record of TLS is whole; what is no handshake is not waited for."""
    if first[0] != HANDSHAKE:
        return True
    if len(first) < RECORD_HEAD:
        return False
    size = int.from_bytes(first[3:RECORD_HEAD])
    return size > LONGEST_RECORD or len(first) >= RECORD_HEAD + size
