"""What comes within TLS arrives whole, in whatever pieces, and OpenSSL is asked for no more than there is."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.integration.serving.certificates import issue, lines, trusting
from tests.integration.serving.run_front import KEY
from vmtool.serving import turns
from vmtool.serving.access_list import Certificates, parse
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.tls import EncryptedConnection, Tls


class App(asyncio.Protocol):
    """In the place of aiohttp's part, with what the part below asks of it."""

    limits, wire, key, piece = Limits(), SimpleNamespace(is_closing=lambda: False), b"", Limits().piece
    full: Any = None

    def __init__(self) -> None:
        self.data, self.ended = b"", 0

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended += 1

    def enter(self, wire: asyncio.Transport) -> None: ...
    def wait_turn(self) -> None: ...


class Wire(asyncio.Transport):
    """What goes to the client is kept."""

    def __init__(self, out: ssl.MemoryBIO) -> None:
        super().__init__()
        self.out = out

    def write(self, data: Any) -> None:
        self.out.write(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


class Peers:
    """A client, and the front's side, which get each other's bytes by hand."""

    def __init__(self, directory: Path) -> None:
        access = parse(f"{KEY}\n{lines(issue(directory / 'ca'))}".encode(), "the list")
        self.app, self.sent, self.received = App(), ssl.MemoryBIO(), ssl.MemoryBIO()
        self.front = EncryptedConnection(asyncio.get_running_loop(), cast(Connection, self.app),
                                         Tls(cast(Certificates, access.certificates)))
        self.client = trusting(directory / "ca").wrap_bio(self.received, self.sent, server_hostname="localhost")
        self.front.connection_made(Wire(self.received))
        for _ in range(3):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.front.begin(self.sent.read())
        self.front.begin(self.sent.read())
        self.asked = 0

    def count(self) -> None:
        """Count from now on how often OpenSSL is asked in vain."""
        base = cast(Any, self.front)
        engine = base._sslobj

        def read(size: int) -> bytes:
            try:
                return cast(bytes, engine.read(size))
            except ssl.SSLWantReadError:
                self.asked += 1
                raise

        base._sslobj = SimpleNamespace(read=read, pending=engine.pending, unwrap=engine.unwrap)

    def written(self, *pieces: bytes, end: bool = False) -> bytes:
        for piece in pieces:
            self.client.write(piece)
        if end:
            with pytest.raises(ssl.SSLWantReadError):
                self.client.unwrap()
        return self.sent.read()


async def whole_records(one: Peers) -> None:
    one.count()
    one.front.begin(one.written(b"a" * 300))
    one.front.begin(one.written(b"b" * 300, b"c" * 3000, b"d"))
    assert one.app.data == b"a" * 300 + b"b" * 300 + b"c" * 3000 + b"d"
    assert one.asked == 0


async def byte_by_byte(one: Peers) -> None:
    data = one.written(b"a" * 300, b"b" * 5)
    for at in range(len(data)):
        one.front.begin(data[at:at + 1])
    assert one.app.data == b"a" * 300 + b"b" * 5


async def the_end_in_the_same_packet(one: Peers) -> None:
    one.front.begin(one.written(b"a" * 300, end=True))
    assert (one.app.data, one.app.ended) == (b"a" * 300, 1)


async def the_end_alone(one: Peers) -> None:
    one.front.begin(one.written(end=True))
    assert (one.app.data, one.app.ended) == (b"", 1)


@pytest.mark.parametrize("scene", [whole_records, byte_by_byte, the_end_in_the_same_packet, the_end_alone])
def test_what_comes_within_tls(scene: Any, tmp_path: Path) -> None:
    async def run() -> None:
        await scene(Peers(tmp_path))

    turns.run(run())
