"""What a peer must have sent before anything is made for it."""

from __future__ import annotations

import pytest

from vmtool.serving.front.arrivals import head_begun, hello_begun

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
HELLO = b"\x16\x03\x01\x00\x04abcd"


@pytest.mark.parametrize(("sent", "begun"), [
    (HEAD + b"\r\n", True), (HEAD + b"\r\nbody", True), (HEAD, False), (HEAD[:1], False),
    (HEAD + b"X: " + b"a" * 9000, False),
    (b"\r\n", False), (b"\r\n\r\n\r\n\r\n", False), (b"\r\n\r\n" + HEAD, False), (b"\r\n" + HEAD + b"\r\n", True),
    (b"GET / HTTP/1.1\n\n", True), (b"GET / HTTP/1.1\r\n\n", True), (b"GET / HTTP/1.1\n\r\n", True),
])
def test_a_head_is_waited_for(sent: bytes, begun: bool) -> None:
    assert head_begun(bytearray(sent)) is begun


@pytest.mark.parametrize("sent", [HELLO, b"\0", b"\x80", b" ", b"\r\n\0", b"0\r\n"])
def test_what_is_no_http_is_refused_at_once(sent: bytes) -> None:
    assert head_begun(bytearray(sent))


@pytest.mark.parametrize(("sent", "begun"), [
    *((HELLO[:size], False) for size in range(1, len(HELLO))), (HELLO, True), (HELLO + b"more", True),
    (b"GET", True), (b"\x16\x03\x01\xff\xff", True), (b"\x16\x03\x01\x40\x00" + b"x" * 16383, False),
])
def test_a_hello_is_waited_for_and_what_is_none_is_refused_at_once(sent: bytes, begun: bool) -> None:
    assert hello_begun(bytearray(sent)) is begun
