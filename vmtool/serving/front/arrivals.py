"""A peer that has just come: a bare socket until a whole head is there, or with TLS a whole hello.

Most of what an attacker sends never gets further, and costs a third of what asyncio's transport and aiohttp's parser,
task and timer would.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING

from vmtool.serving.front.crowd import address_group

if TYPE_CHECKING:
    from vmtool.serving.front.door import Door

TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# How long a connection waits for one more request when the front takes leave: who asks often hears of it with the
# answer, and asks again on another connection; who asks seldom has closed it by himself (OpenAI's clients after 5 s).
LEAVING_SECONDS = 6.0
BLANK_LINE = re.compile(rb"\n\r?\n")
HANDSHAKE, RECORD_HEAD, LONGEST_RECORD = 22, 5, (16 << 10) + 256


class Arrival:
    """One peer, of which nothing is kept but what it has sent so far.

    Attributes:
        until: when it is ended.
        first: what it has sent, but for blank lines before a head.
        size: of all that it has sent.
        entering: the door gives it to a protocol, which takes its place in the crowd.
    """

    __slots__ = ("address", "descriptor", "door", "entering", "first", "host", "share", "size", "sock", "until")

    def __init__(self, door: Door, sock: socket.socket, host: str) -> None:
        self.door, self.sock, self.host, self.address = door, sock, host, address_group(host)
        self.until, self.entering = door.loop.time() + door.limits.keyless_seconds, False
        self.first, self.size, self.descriptor = bytearray(), 0, sock.fileno()
        self.share = door.share_of(self.address)

    def overdue(self, now: float) -> bool:
        return now > self.until

    def leave(self, now: float) -> None:
        """The front takes leave."""
        self.until = min(self.until, now + LEAVING_SECONDS)

    def drop(self) -> None:
        """End it now; one that is entering finds that it has no place any more."""
        self.door.crowd.leave(self)
        if not self.entering:
            self.door.forget(self)

    def read(self) -> None:
        """Something has come, or its end."""
        try:
            data = self.sock.recv(self.door.limits.piece)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        seen = len(self.first)
        self.first += data
        self.size += len(data)
        if not data:
            self.drop()
        elif self.door.begun(self.first, seen):
            self.entering = True
            self.door.enter(self)
        elif self.size > self.door.limits.head:
            with contextlib.suppress(OSError):
                self.sock.send(TOO_LONG)
            self.drop()


def head_begun(first: bytearray, seen: int) -> bool:
    """Whether a request's head is whole; what is no HTTP is not waited for.

    It may come byte by byte, so only what is new is looked at.

    Args:
        first: what has come; blank lines before the head are taken out of it.
        seen: how many bytes of it this was asked about before.
    """
    if not seen:
        del first[:len(first) - len(first.lstrip(b"\r\n"))]
    return bool(first) and (not first[:1].isalpha() or BLANK_LINE.search(first, max(0, seen - 2)) is not None)


def hello_begun(first: bytearray, _: int) -> bool:
    """Whether the first record of TLS is whole; what is no handshake is not waited for."""
    if first[0] != HANDSHAKE:
        return True
    if len(first) < RECORD_HEAD:
        return False
    size = int.from_bytes(first[3:RECORD_HEAD])
    return size > LONGEST_RECORD or len(first) >= RECORD_HEAD + size
