"""What the engine may send, and what it may not: whole answers, broken ones, and more than anybody takes."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from vmtool.serving.front.upstream import MOST_HEAD, BrokenOff, Upstream

OK = b"HTTP/1.1 200 OK\r\n"


class Wire:
    """The transport's side."""

    def __init__(self) -> None:
        self.sent, self.reading, self.ended = b"", True, False

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.ended

    def abort(self) -> None:
        self.ended = True


def connected(buffered: int = 1000) -> tuple[Upstream, Wire]:
    upstream, wire = Upstream(buffered), Wire()
    upstream.connection_made(cast(asyncio.Transport, wire))
    return upstream, wire


async def answer(upstream: Upstream) -> bytes:
    await upstream.send(b"GET / HTTP/1.1\r\n\r\n", ())
    return await upstream.read_all()


@pytest.mark.parametrize(("pieces", "status", "body"), [
    ([OK + b"Content-Length: 2\r\n\r\nab"], 200, b"ab"),
    ([OK + b"Content-Le", b"ngth: 2\r\n\r", b"\na", b"b"], 200, b"ab"),
    ([OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"1;x=1\r\nb\r\n0\r\nTrailer: t\r\n\r\n"], 200, b"ab"),
    ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b""), ([OK + b"Content-Length: 0\r\n\r\n"], 200, b""),
])
def test_a_whole_answer(pieces: list[bytes], status: int, body: bytes) -> None:
    upstream, _ = connected()
    for piece in pieces:
        upstream.data_received(piece)
    assert asyncio.run(answer(upstream)) == body
    assert (upstream.status, upstream.whole, upstream.keeps, upstream.open) == (status, True, True, True)
    assert all(name.lower() != b"trailer" for name, _ in upstream.headers)


def test_an_answer_without_a_length_lasts_as_long_as_its_connection() -> None:
    upstream, _ = connected()
    upstream.data_received(b"HTTP/1.0 200 OK\r\n\r\nab")
    upstream.connection_lost(None)
    assert asyncio.run(answer(upstream)) == b"ab"
    assert not upstream.open


@pytest.mark.parametrize(("status", "kept"), [(200, True), (400, True), (404, True), (500, False), (503, False)])
def test_a_fault_of_the_engine_is_the_last_answer_of_its_connection(status: int, kept: bool) -> None:
    """uvicorn sends a whole 500 for what its application raised, and then ends the connection without a word: the next
    client's request would meet that end."""
    upstream, _ = connected()
    upstream.data_received(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nab" % status)
    assert asyncio.run(answer(upstream)) == b"ab"
    assert (upstream.whole, upstream.keeps) == (True, kept)


@pytest.mark.parametrize("sent", [
    b"", OK, OK + b"Content-Length: 3\r\n\r\nab", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"SSH-2.0\r\n",
    OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nab", OK + b"Content-Length: -2\r\n\r\nab",
    OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", OK + b"X: 1\r\n" * (MOST_HEAD // 6 + 1),
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nab",
])
def test_what_is_no_whole_answer_is_an_error(sent: bytes) -> None:
    upstream, _ = connected()
    upstream.data_received(sent)
    upstream.connection_lost(ConnectionResetError())
    with pytest.raises(BrokenOff):
        asyncio.run(answer(upstream))


def test_a_second_answer_ends_the_connection_and_reaches_nobody() -> None:
    upstream, wire = connected()
    upstream.data_received(OK + b"Content-Length: 1\r\n\r\na" + OK + b"Content-Length: 1\r\n\r\nb")
    assert asyncio.run(answer(upstream)) == b"a"
    assert wire.ended
    assert not upstream.open
    later, wire = connected()
    later.data_received(OK + b"Content-Length: 1\r\n\r\na")
    later.data_received(OK)
    assert wire.ended


def test_a_connection_of_http_1_0_is_not_used_again() -> None:
    upstream, _ = connected()
    upstream.data_received(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na")
    assert (upstream.whole, upstream.keeps) == (True, False)


def test_connection_close_is_heard() -> None:
    upstream, _ = connected()
    upstream.data_received(OK + b"Connection: Close\r\nContent-Length: 1\r\n\r\na")
    assert not upstream.keeps
    upstream.begin()
    assert upstream.keeps


def test_an_engine_that_is_faster_than_its_client_waits() -> None:
    upstream, wire = connected(buffered=10)
    upstream.data_received(OK + b"Content-Length: 30\r\n\r\n" + b"a" * 10)
    assert wire.reading
    upstream.data_received(b"b" * 10)
    assert not wire.reading

    async def take() -> bytes:
        await upstream.send(b"", ())
        return await upstream.read()

    assert asyncio.run(take()) == b"a" * 10 + b"b" * 10
    assert wire.reading


def test_a_long_body_waits_for_the_engine_to_take_it_and_ends_with_its_answer() -> None:
    upstream, wire = connected()

    async def send() -> None:
        upstream.pause_writing()
        sending = asyncio.create_task(upstream.send(b"head", (b"one", b"two")))
        await asyncio.sleep(0)
        assert wire.sent == b"head"
        upstream.data_received(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        upstream.resume_writing()
        await sending

    asyncio.run(send())
    assert (wire.sent, upstream.status) == (b"head", 413)
