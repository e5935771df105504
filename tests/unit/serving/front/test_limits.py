"""The descriptor limit, the log's pace, and what requests and bodies hold."""

from __future__ import annotations

import logging
import resource
from typing import cast

import pytest

from vmtool.serving.access_list import AccessToken
from vmtool.serving.front import limits as li
from vmtool.serving.front.clients import Client
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import Busy, Denied
from vmtool.serving.front.log import BoundedLog, Warnings
from vmtool.serving.front.rooms import Bodies, Requests


@pytest.mark.parametrize(("soft", "hard", "left"), [
    (1024, 1 << 20, 2624), (1024, resource.RLIM_INFINITY, 2624), (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    (4096, 4096, None), (256, 1024, 1024), (1024, 1024, None),
])
def test_the_descriptor_limit_is_raised_and_else_the_limits_shrink(
        monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, left: int | None) -> None:
    now = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: now.__setitem__(slice(None), pair))
    fitted = li.fitting(li.Limits())
    assert now == [left or soft, hard]
    assert now[0] == resource.RLIM_INFINITY or 2 * fitted.connections + fitted.requests + li.SPARE <= now[0]
    if now[0] == resource.RLIM_INFINITY or now[0] >= 2624:
        assert fitted == li.Limits()


def test_too_few_descriptors_are_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="a limit of 64 open files is too low: at least 72 are needed"):
        li.shrunk(li.Limits(), 64)


def test_the_log_has_so_many_lines_a_second_and_counts_the_others() -> None:
    now, lines = [0.0], list[str]()
    log = BoundedLog(lines.append, 2.0, "requests", lambda: now[0])
    for number in range(1000):
        log(f"line {number}")
    assert lines == [f"line {number}" for number in range(10)]
    now[0] += 0.5
    log("x" * 10_000)
    assert lines[10:] == ["990 more requests", "x" * 300]
    now[0] += 3600
    for number in range(1000):
        log(f"line {number}")
    assert len(lines) == 22


def test_what_libraries_complain_of_holds_nothing_that_a_peer_sent() -> None:
    lines: list[str] = []
    logger = logging.Logger("aiohttp.server")
    logger.addHandler(Warnings(lines.append))
    try:
        raise ValueError("secret")
    except ValueError:
        logger.exception("bad %s", "secret")
    logger.warning("secret")
    assert [line.partition(" in ")[0] for line in lines] == ["aiohttp.server: ValueError", "aiohttp.server: warning"]
    assert "secret" not in "".join(lines)


def test_a_key_has_so_many_requests_and_leaves_room_for_others() -> None:
    requests = Requests(li.Limits(requests=3, requests_per_key=2))
    one, other = Client(AccessToken("key", b"")), Client(AccessToken("other", b""))
    wires = [cast(Connection, object()) for _ in range(4)]
    with requests.place(one, wires[0]), requests.place(one, wires[1]):
        with pytest.raises(Busy, match="this key has 2 requests in flight") as busy:
            requests.place(one, wires[2]).__enter__()
        assert (busy.value.status, busy.value.headers) == (429, {"Retry-After": "1"})
        with requests.place(other, wires[2]), pytest.raises(Busy, match="3 requests are in flight"):
            requests.place(other, wires[3]).__enter__()
    assert (requests.held, one.running, other.running) == (0, set(), set())


def test_long_bodies_share_a_number_of_bytes_and_short_ones_always_have_room() -> None:
    bodies = Bodies(li.Limits(body=100, bodies=150, small_body=10))
    with bodies.body() as first, bodies.body() as second, bodies.body() as third:
        first.hold(100)
        second.hold(10)
        assert bodies.held == 100
        third.hold(40)
        third.hold(50)
        assert bodies.held == 150
        with pytest.raises(Busy, match="too many long requests at once"):
            third.hold(51)
        with pytest.raises(Busy, match="too many long requests at once"):
            second.hold(11)
        with pytest.raises(Denied, match="the body may have 100 bytes"):
            first.hold(101)
    assert bodies.held == 0


def test_a_body_that_is_sent_on_holds_nothing() -> None:
    bodies = Bodies(li.Limits(body=100, bodies=100, small_body=10))
    with bodies.body() as first, bodies.body() as second:
        first.hold(100)
        first.data += bytes(range(100))
        assert b"".join(first.pieces(30)) == bytes(range(100))
        second.hold(100)
    assert bodies.held == 0


def test_a_closed_server_answers_nothing_new_and_is_open_again_when_nobody_ends_it() -> None:
    now = [100.0]
    requests, client = Requests(li.Limits(), lambda: now[0]), Client(AccessToken("ci", b"d"))
    with requests.place(client, cast(Connection, object())):
        assert not requests.closed
        assert requests.close() == 1
        with pytest.raises(Denied) as error, requests.place(client, cast(Connection, object())):
            pass
        assert (error.value.status, error.value.headers["Retry-After"]) == (503, "30")
    now[0] += 20
    assert (requests.close(), requests.closed) == (0, True)
    now[0] += 29.9
    assert requests.closed, "it was told once more"
    now[0] += 0.2
    assert not requests.closed
    with requests.place(client, cast(Connection, object())):
        assert requests.held == 1
    assert client.usage.requests == 2, "what is refused is no request of the token's"
