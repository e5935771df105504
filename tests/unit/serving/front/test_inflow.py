"""What a peer sends is counted, however it is cut into pieces."""

from __future__ import annotations

import pytest
from aiohttp import StreamReader

from vmtool.serving.front.inflow import Inflow

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Body(StreamReader):
    """What aiohttp's parser made of a body."""

    def __init__(self, size: int, *, whole: bool) -> None:
        self.total_bytes, self.whole = size, whole

    def is_eof(self) -> bool:
        return self.whole


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 7, 1000])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n"])
def test_a_head_within_bounds_is_taken_and_then_a_body_of_any_size(piece: int, before: bytes) -> None:
    inflow = Inflow(len(HEAD) + len(before))
    whole = before + HEAD
    assert all(inflow.fits(whole[at:at + piece]) for at in range(0, len(whole), piece))
    assert inflow.answering
    inflow.begin(Body(10_000, whole=False))
    assert inflow.fits(b"x" * 10_000)
    assert inflow.framed()


@pytest.mark.parametrize("piece", [1, 3, 1000])
@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50, b"\r\n" * 200, b"G" * 200,
                                  b"\r\n\r\n" + b"G" * 200, b"GET /" + b"x" * 200 + b"\r\n\r\n"])
def test_a_head_without_end_is_not(piece: int, data: bytes) -> None:
    inflow = Inflow(100)
    assert not all(inflow.fits(data[at:at + piece]) for at in range(0, len(data), piece))


def test_framing_that_is_more_than_the_body_is_not_taken() -> None:
    inflow = Inflow(100)
    assert inflow.fits(HEAD)
    inflow.begin(body := Body(0, whole=False))
    assert inflow.fits(b"1;" + b"e" * 98)
    assert inflow.framed()
    assert inflow.fits(b"e")
    assert not inflow.framed()
    body.total_bytes = 100
    assert inflow.framed()


def test_what_comes_ahead_of_its_turn_is_seen_and_bounded() -> None:
    inflow = Inflow(100)
    assert inflow.fits(HEAD + HEAD)
    inflow.begin(Body(0, whole=True))
    assert inflow.ahead
    assert inflow.fits(b"x" * 100)
    assert not inflow.fits(b"x")
    assert inflow.end()
    assert inflow.fits(HEAD)
    inflow.begin(Body(0, whole=True))
    assert not inflow.ahead
