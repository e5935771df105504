"""What a peer must have sent before anything is made for it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vmtool.serving.front import arrivals
from vmtool.serving.front.arrivals import Arrival, head_begun, hello_begun
from vmtool.serving.front.limits import Limits

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
HELLO = b"\x16\x03\x01\x00\x04abcd"


class Door:
    """Where one peer comes in, and what becomes of it."""

    def __init__(self, most: int = 32 << 10) -> None:
        self.limits, self.loop = Limits(head=most), SimpleNamespace(time=lambda: 0.0)
        self.crowd, self.entered, self.begun = SimpleNamespace(leave=lambda _: None), 0, head_begun

    def share_of(self, _: str) -> None:
        return None

    def enter(self, _: Arrival) -> None:
        self.entered += 1

    def forget(self, arrival: Arrival) -> None:
        arrival.sock.close()


class Sock:
    """It receives what it is given."""

    def __init__(self) -> None:
        self.data, self.sent, self.closed = b"", b"", False

    def fileno(self) -> int:
        return -1

    def recv(self, _: int) -> bytes:
        return self.data

    def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


def come(pieces: list[bytes], most: int = 32 << 10) -> tuple[Door, Sock, Arrival]:
    """A peer that sends these, until it has begun or is ended."""
    door, sock = Door(most), Sock()
    arrival = Arrival(cast(Any, door), cast(Any, sock), "127.0.0.1")
    for sock.data in pieces:
        arrival.read()
        if door.entered or sock.closed:
            break
    return door, sock, arrival


@pytest.mark.parametrize(("sent", "begun"), [
    (HEAD + b"\r\n", True), (HEAD + b"\r\nbody", True), (HEAD, False), (HEAD[:1], False),
    (HEAD + b"X: " + b"a" * 9000, False),
    (b"\r\n", False), (b"\r\n\r\n\r\n\r\n", False), (b"\r\n\r\n" + HEAD, False), (b"\r\n" + HEAD + b"\r\n", True),
    (b"GET / HTTP/1.1\n\n", True), (b"GET / HTTP/1.1\r\n\n", True), (b"GET / HTTP/1.1\n\r\n", True),
])
def test_a_head_is_waited_for(sent: bytes, begun: bool) -> None:
    assert head_begun(bytearray(sent), 0) is begun


@pytest.mark.parametrize("sent", [HELLO, b"\0", b"\x80", b" ", b"\r\n\0", b"0\r\n"])
def test_what_is_no_http_is_refused_at_once(sent: bytes) -> None:
    assert head_begun(bytearray(sent), 0)


@pytest.mark.parametrize(("sent", "begun"), [
    *((HELLO[:size], False) for size in range(1, len(HELLO))), (HELLO, True), (HELLO + b"more", True),
    (b"GET", True), (b"\x16\x03\x01\xff\xff", True), (b"\x16\x03\x01\x40\x00" + b"x" * 16383, False),
])
def test_a_hello_is_waited_for_and_what_is_none_is_refused_at_once(sent: bytes, begun: bool) -> None:
    assert hello_begun(bytearray(sent), 0) is begun


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"\n\r\n\r\n"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\n\n", b"\n\r\n"])
def test_a_head_in_pieces_begins_with_its_last_one(size: int, before: bytes, end: bytes) -> None:
    whole = before + b"GET / HTTP/1.1\r\na: b\r\n\tc" + end
    pieces = [whole[at:at + size] for at in range(0, len(whole), size)]
    assert not come(pieces[:-1])[0].entered
    door, _, arrival = come(pieces)
    assert (door.entered, bytes(arrival.first)) == (1, whole.lstrip())


def test_of_a_head_that_comes_byte_by_byte_only_what_is_new_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def search(text: bytearray, at: int = 0) -> re.Match[bytes] | None:
        nonlocal looked
        looked += len(text) - at
        return pattern.search(text, at)

    pattern = arrivals.BLANK_LINE
    monkeypatch.setattr(arrivals, "BLANK_LINE", SimpleNamespace(search=search))
    sent = b"G / HTTP/1.1\n" + b"a\n" * 400
    assert not come([bytes([one]) for one in sent])[0].entered
    assert looked <= 3 * len(sent)


def test_blank_lines_before_a_head_are_not_kept_and_count() -> None:
    door, sock, arrival = come([b"\r\n"] * 50, most=100)
    assert (door.entered, sock.closed, bytes(arrival.first)) == (0, False, b"")
    assert come([b"\r\n"] * 51, most=100)[1].sent.startswith(b"HTTP/1.1 431 ")
    assert come([b"\r\n"] * 40 + [b"GET /" + b"a" * 20], most=100)[1].closed
