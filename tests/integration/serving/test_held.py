"""Nobody holds the front: its memory, its connections, its time and its log are bounded, with a key and without."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.serving.floods import CHUNKED, FLOODS, GET, KEYED, MOST_MEMORY, enough_descriptors
from tests.integration.serving.processes import BEARER, Serving, everything, parse, serving, until
from tests.integration.serving.run_front import OTHER


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One for all floods: what each leaves would add up."""
    enough_descriptors()
    with serving(tmp_path_factory.mktemp("held")) as one:
        yield one


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_takes_no_memory_and_keeps_nobody_out(front: Serving, flood: str) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(200):
            connection = open_ones.enter_context(front.connect())
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # it takes what it takes
                connection.send(FLOODS[flood])
        assert front.ask("GET", "/v1/models")[0] == 200
        assert front.memory() < MOST_MEMORY
    assert len(front.log()) < 100_000


@pytest.mark.parametrize("asked", [{"stream": 2000.0, "pad": 5000.0}, {"wide": 2_000_000.0}], ids=["stream", "wide"])
def test_answers_that_are_not_read_are_not_kept(front: Serving, asked: dict[str, float]) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(250):
            open_ones.enter_context(front.connect()).sendall(front.chat(**asked))
        assert front.ask("GET", "/v1/models", f"x-api-key: {OTHER}\r\n")[0] == 200
        assert front.memory() < MOST_MEMORY


def test_idle_connections_keep_nobody_out_and_end(tmp_path: Path) -> None:
    enough_descriptors()
    with serving(tmp_path, keyless_seconds=15.0) as one, contextlib.ExitStack() as open_ones:
        idle = [open_ones.enter_context(one.connect()) for _ in range(1500)]
        for connection in idle[::2]:
            with contextlib.suppress(OSError):
                connection.send(b"GET /health HT")
        assert one.ask("GET", "/v1/models")[0] == 200
        assert one.open_connections() < 600
        until(lambda: one.open_connections() < 20, "idle connections stay")
        assert one.memory() < MOST_MEMORY


def test_a_head_that_comes_slowly_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path, keyless_seconds=1.0) as one, one.connect() as connection, pytest.raises(ConnectionError):
        connection.sendall(GET)
        for _ in range(600):
            time.sleep(0.1)
            connection.sendall(b"X: 1\r\n")


def test_a_connection_with_a_key_may_wait_longer(tmp_path: Path) -> None:
    """One without a key that comes after it is ended in time; then the one with a key is still there."""
    with serving(tmp_path, keyless_seconds=3.0, idle_seconds=120.0) as one, one.connect() as keyed:
        assert models(keyed) == 200
        with one.connect() as keyless:
            assert keyless.recv(1) == b""
        assert models(keyed) == 200


def models(connection: socket.socket) -> int:
    """The status of one more answer on a connection that goes on."""
    connection.sendall(f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode())
    answer = b""
    while not answer.endswith(b"]}"):
        piece = connection.recv(1 << 16)
        assert piece, answer
        answer += piece
    return parse(answer)[0]


def test_an_engine_that_hangs_is_reported(tmp_path: Path) -> None:
    with serving(tmp_path, engine_seconds=0.5) as one:
        status, body = parse(one.say(one.chat(hang=60).replace(b"Host: x", b"Host: x\r\nConnection: close")))
        assert (status, json.loads(body)["error"]["type"]) == (504, "server_error")
        # On a busy machine it may be over before the engine has begun.
        until(lambda: one.events().count("given up") == one.events().count("begun"), "the engine works for nobody")


def test_an_engine_that_falls_silent_is_left(tmp_path: Path) -> None:
    """It has time to begin: what is silent for too long is counted from its last word."""
    with serving(tmp_path, engine_seconds=5.0) as one:
        answer = one.say(one.chat(stream=2, fall=1))
        assert b'"number": 1' in answer
        assert not answer.endswith(b"0\r\n\r\n")
        until(lambda: "given up" in one.events(), "the engine works for nobody")


def test_who_does_not_read_is_left_and_the_engine_stops(tmp_path: Path) -> None:
    with serving(tmp_path, reader_seconds=0.5) as one, one.connect() as connection:
        connection.sendall(one.chat(stream=100_000, pad=5000))
        until(lambda: "given up" in one.events(), "the engine works for nobody")


def test_what_is_only_made_into_tokens_may_have_less(tmp_path: Path) -> None:
    """vLLM needs 1.8 GB and half a minute for 8 MB of text, in which it answers nobody else."""
    with serving(tmp_path, text=1000, body=2000) as one:
        for path in ("/tokenize", "/detokenize", "/v1/messages/count_tokens"):
            assert [one.ask("POST", path, body=bytes(size))[0] for size in (1001, 1000)] == [413, 200]
        assert one.ask("POST", "/v1/completions", body=bytes(2000))[0] == 200


def test_what_a_key_may_hold_is_bounded(tmp_path: Path) -> None:
    with serving(tmp_path, requests=3, requests_per_key=2, body=1000, bodies=1500, small_body=10,
                 body_seconds=0.5) as one, contextlib.ExitStack() as open_ones:
        head = f"POST /tokenize HTTP/1.1\r\nHost: x\r\n{BEARER}Content-Length: "
        assert one.ask("POST", "/tokenize", body=bytes(1001))[0] == 413
        assert parse(one.say(f"{head}1000\r\n\r\nx"))[0] == 408
        for _ in range(2):
            open_ones.enter_context(one.connect()).sendall(one.chat(hang=600))
        until(lambda: one.events().count("begun") == 2, "the engine has not both")
        status, body = one.ask("GET", "/v1/models")
        assert (status, json.loads(body)["error"]["type"]) == (429, "rate_limit_error")
        other = f"Authorization: Bearer {OTHER}\r\n"
        assert one.ask("GET", "/v1/models", other)[0] == 200
        open_ones.enter_context(one.connect()).sendall(one.chat(hang=600).replace(BEARER.encode(), other.encode()))
        until(lambda: one.events().count("begun") == 3, "the engine has not all")
        assert one.ask("GET", "/v1/models", other)[0] == 503


def test_long_bodies_share_what_there_is_and_short_ones_pass(tmp_path: Path) -> None:
    with serving(tmp_path, bodies=1500, body=1000, small_body=10) as one, one.connect() as first:
        first.sendall(f"POST /tokenize HTTP/1.1\r\nHost: x\r\n{BEARER}Content-Length: 1000\r\n\r\n".encode())
        until(lambda: one.ask("POST", "/tokenize", body=bytes(1000))[0] == 503, "the share is not held")
        assert one.ask("POST", "/tokenize", body=bytes(10))[0] == 200
        first.sendall(bytes(1000))
        assert parse(first.recv(1 << 16))[0] == 200
        assert one.ask("POST", "/tokenize", body=bytes(1000))[0] == 200


def test_without_a_key_one_answer_is_the_last_of_what_was_sent_ahead(front: Serving) -> None:
    assert front.say((GET + b"\r\n") * 5).count(b"HTTP/1.1 ") == 1
    with front.connect() as connection:
        for _ in range(3):
            connection.sendall(GET + b"\r\n")
            assert parse(connection.recv(1 << 16))[0] == 200


def test_a_body_that_breaks_in_the_middle_is_refused_at_once(front: Serving) -> None:
    with front.connect() as connection:
        connection.sendall(KEYED + CHUNKED + b"1\r\na\r\n")
        time.sleep(0.2)
        connection.sendall(b"zz\r\n")
        assert parse(everything(connection))[0] == 400


def test_the_log_is_bounded(front: Serving) -> None:
    before = len(front.log())
    for _ in range(300):
        front.ask("GET", "/v1/models", "")
    assert len(front.log()) - before < 10_000
    assert "more denied requests" in front.log()
