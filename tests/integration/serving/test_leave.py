"""A front that takes leave of its clients, since another one has taken over or it is about to be stopped: nobody loses
an answer."""

from __future__ import annotations

import http.client
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from aiohttp import web

from tests.integration.serving.processes import serving, until
from tests.integration.serving.run_front import KEY, MANAGER
from vmtool.serving import turns
from vmtool.serving.front.arrivals import LEAVING_SECONDS, Arrival
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.crowd import Crowd, Peer
from vmtool.serving.front.limits import Limits

KEYED = {"Authorization": f"Bearer {KEY}"}


def leave(port: int, key: str = MANAGER, method: str = "PUT") -> tuple[int, int]:
    """Ask the front to; the status, and how many connections are left."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, "/drain", headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()).get("connections", -1)


def test_each_answer_is_the_last_on_its_connection_and_a_stream_comes_to_its_end(tmp_path: Path) -> None:
    with serving(tmp_path) as front, front.connect() as stream:
        kept = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
        for _ in range(2):
            kept.request("GET", "/v1/models", headers=KEYED)
            answer = kept.getresponse()
            assert (answer.status, answer.getheader("Connection"), bool(answer.read())) == (200, None, True)
        stream.sendall(front.chat(stream=100, gap=0.01))
        assert b"200 OK" in stream.recv(1 << 16)
        assert leave(front.manage_port, KEY) == (401, -1)
        assert leave(front.manage_port, method="GET") == (404, -1)
        assert leave(front.manage_port) == (200, 2)
        kept.request("GET", "/v1/models", headers=KEYED)
        answer = kept.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (200, "close")
        assert json.loads(answer.read())["data"]
        until(lambda: leave(front.manage_port) == (200, 1), "a connection whose last answer was given is still there")
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += (piece := stream.recv(1 << 16))
            assert piece, "the stream broke off"


def close(port: int, key: str = MANAGER) -> tuple[int, int]:
    """Tell the front that it is about to be stopped; the status, and how many requests are being answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("PUT", "/close", headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()).get("requests", -1)


def test_a_closed_front_answers_nothing_new_and_what_it_has_begun(tmp_path: Path) -> None:
    with serving(tmp_path) as front, front.connect() as stream:
        assert close(front.manage_port, KEY) == (401, -1)
        stream.sendall(front.chat(stream=100, gap=0.01))
        assert b"200 OK" in stream.recv(1 << 16)
        assert close(front.manage_port) == (200, 1)
        for target in ("/v1/models", "/v1/models/canary"):
            refused = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
            refused.request("GET", target, headers=KEYED)
            answer = refused.getresponse()
            assert (answer.status, answer.getheader("Retry-After")) == (503, "30")
            assert "is being stopped" in json.loads(answer.read())["error"]["message"]
        assert front.ask("GET", "/health", "") == (503, b'{"status": "stopping"}')
        assert front.ask("GET", "/v1/models", "")[0] == 401
        data = b""
        while b"[DONE]" not in data:
            data += (piece := stream.recv(1 << 16))
            assert piece, "the stream broke off"
        until(lambda: close(front.manage_port) == (200, 0), "an answer that is over is still counted")


def test_what_waits_is_ended_in_a_while_and_what_is_answered_is_not() -> None:
    async def scene() -> tuple[float, float]:
        crowd: Crowd[Peer] = Crowd(Limits())
        arrival = cast(Arrival, SimpleNamespace(
            address="a", host="a", until=0.0, share=None))
        waits, answered = (Connection(web.Server(None), crowd, Limits(), arrival) for _ in range(2))  # type: ignore[arg-type]
        waits.until, answered.until, answered.request = 1e9, math.inf, object()  # type: ignore[assignment]
        for connection in (waits, answered):
            connection.leave(100.0)
        return waits.until, answered.until

    assert turns.run(scene()) == (100.0 + LEAVING_SECONDS, math.inf)
