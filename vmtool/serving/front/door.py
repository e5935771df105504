"""Where peers come in: all that have shown no key have one share of the event loop, in time that is to spare.

However many they are, they hold up nobody who has one; and however many come from one address, others are as soon in.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable
from typing import Protocol, cast

from vmtool.serving.front.arrivals import Arrival
from vmtool.serving.front.crowd import Crowd, Peer
from vmtool.serving.front.limits import Limits
from vmtool.serving.turns import Share, running

# When there are no descriptors or no memory for one more.
PAUSE_SECONDS = 1.0


class Entered(Protocol):
    """What an arrival becomes: one of asyncio's protocols."""

    def begin(self, first: bytes) -> None:
        """Take what has come before."""
        ...


class Door:
    """Accepts connections, one in a turn of the event loop, and reads of one peer without a key.

    Attributes:
        share: of all that have shown no key; there is another of those that have yet to be accepted.
        addresses: each address's part of it, while somebody of that address is there.

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
        self.share, self.turns = Share(spare=True), running()
        self.addresses = weakref.WeakValueDictionary[str, Share]()
        self.descriptor = listening.fileno()
        self.turns.share(self.descriptor, Share(spare=True))
        self.pause: asyncio.TimerHandle | None = None
        self.entering: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Accept from now on; where there are no descriptors, once there are."""
        try:
            self.loop.add_reader(self.descriptor, self._accept)
        except OSError:
            self.pause = self.loop.call_later(PAUSE_SECONDS, self.open)

    def share_of(self, address: str) -> Share:
        """That of one address: a handshake costs a thousand times what it costs to begin one."""
        share = self.addresses.get(address) or Share(spare=True, within=self.share)
        self.addresses[address] = share
        return share

    def close(self) -> None:
        """Accept no more, and end those that have sent nothing whole."""
        self.loop.remove_reader(self.descriptor)
        self.turns.share(self.descriptor, None)
        if self.pause:
            self.pause.cancel()
        for peer in self.crowd:
            if isinstance(peer, Arrival):
                peer.drop()
        self.listening.close()

    def forget(self, arrival: Arrival) -> None:
        """End it."""
        self.loop.remove_reader(arrival.descriptor)
        self.turns.share(arrival.descriptor, None)
        arrival.sock.close()

    def enter(self, arrival: Arrival) -> None:
        """It has begun as a client does."""
        self.loop.remove_reader(arrival.descriptor)
        task = self.loop.create_task(self._enter(arrival))
        self.entering.add(task)
        task.add_done_callback(self.entering.discard)

    async def _enter(self, arrival: Arrival) -> None:
        try:
            wire, protocol = await self.loop.connect_accepted_socket(lambda: self.protocol(arrival), arrival.sock)
        except OSError:  # it went before it was there
            self.crowd.leave(arrival)
            self.forget(arrival)
            return
        # The transport has read nothing yet: what it reads comes in the loop's next turn at the earliest.
        first, arrival.first = bytes(arrival.first), bytearray()
        if not wire.is_closing():
            cast(Entered, protocol).begin(first)

    def _accept(self) -> None:
        try:
            sock, peer = self.listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError:
            self.loop.remove_reader(self.descriptor)
            self.pause = self.loop.call_later(PAUSE_SECONDS, self.open)
            return
        sock.setblocking(False)
        arrival = Arrival(self, sock, peer[0])
        self.turns.share(arrival.descriptor, arrival.share)
        try:
            self.loop.add_reader(arrival.descriptor, arrival.read)
        except OSError:  # its share, which nobody else had, needs a descriptor
            self.forget(arrival)
            return
        if leaver := self.crowd.admit(arrival):
            leaver.drop()
