"""The front passes on what its table lists, as it came, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.serving.processes import BEARER, Serving, everything, parse, serving, until
from tests.integration.serving.run_front import KEY, OTHER
from vmtool.serving import front as f
from vmtool.serving import turns
from vmtool.serving.access_list import parse as parse_access
from vmtool.serving.front.routes import ROUTES
from vmtool.serving.listening import listening_socket

CHAT = "/v1/chat/completions"
PLAIN = [route for route in ROUTES if route.keyed and "{model}" not in route.path]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("front")) as one:
        yield one


@pytest.mark.parametrize("route", PLAIN, ids=str)
def test_what_is_listed_reaches_vllm_with_a_key_and_only_then(front: Serving, route: object) -> None:
    method, path = str(route).replace("{id}", "resp_1").split()
    begun = front.events()
    assert front.ask(method, path, "")[0] == 401
    assert front.events() == begun
    status, body = front.ask(method, path, body=b"{}" if method == "POST" else b"")
    assert status == 200
    if path not in (CHAT, "/v1/models"):
        assert (json.loads(body)["method"], json.loads(body)["target"]) == (method, path)


@pytest.mark.parametrize("target", [
    "/invocations", "/metrics", "/docs", "/openapi.json", "/v1/models/", "//v1/models", "/v1//models", "/",
    "/v1/models/../../metrics", "/v1/models/%2e%2e/%2e%2e/metrics", "/v1/./models", "/V1/models", "/v1/models%2f",
    "/v1/responses/../models", "/v1/responses/a%2f..%2f..%2fmetrics", "/v1/responses/.", "/v1/models;x", "/load",
    "/v1/load_lora_adapter", "/reset_prefix_cache", "/sleep", "/collective_rpc", "/v1/models#x", "/health/",
    "/inference/v1/abort_requests", "/ping", "/pause", "/server_info", "/tokenizer_info", "/v1/models\\..\\x",
])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_everything_else_is_denied(front: Serving, method: str, target: str) -> None:
    assert front.ask(method, target, "")[0] == 401
    status, body = front.ask(method, target)
    assert status in (404, 405)
    assert json.loads(body)["error"]["code"] == status


@pytest.mark.parametrize(("line", "status"), [
    ("GET http://127.0.0.1/v1/models HTTP/1.1", 400), ("GET http://evil/metrics HTTP/1.1", 400),
    ("CONNECT 127.0.0.1:80 HTTP/1.1", 400), ("OPTIONS * HTTP/1.1", 400), ("TRACE /v1/models HTTP/1.1", 405),
    ("get /v1/models HTTP/1.1", 400), ("GET /v1/models HTTP/3.0", 400), ("GET /v1/models", 400),
    ("GET /v1/mod els HTTP/1.1", 400), ("\x16\x03\x01\x02\x00", 400),
    ("PRI * HTTP/2.0", 400), ("DELETE /v1/responses/resp_1 HTTP/1.1", 405),
])
def test_a_request_line_in_another_form_is_refused(front: Serving, line: str, status: int) -> None:
    answer = front.say(f"{line}\r\nHost: x\r\nConnection: close\r\n{BEARER}\r\n".encode("latin-1"))
    assert parse(answer)[0] == status
    assert json.loads(parse(answer)[1])["error"]["code"] == status


@pytest.mark.parametrize(("headers", "body"), [
    ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "0\r\n\r\n"),
    ("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"), ("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
    ("Content-Length: +2\r\n", "{}"), ("Content-Length: 0x2\r\n", "{}"), ("Content-Length: -1\r\n", "{}"),
    ("Content-Length: 2,2\r\n", "{}"), ("Content-Length : 2\r\n", "{}"), ("Content-Length: 1 1\r\n", "{}"),
    ("Content-Length: 99999999999999999999999\r\n", "{}"), ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: identity\r\n", "{}"), ("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), ("Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n"),
    ("Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "2\r\n{}{}\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n"),
    ("X: 1\r\n folded: 2\r\nContent-Length: 2\r\n", "{}"), ("Bad Name: 1\r\nContent-Length: 2\r\n", "{}"),
    ("X: a\x00b\r\nContent-Length: 2\r\n", "{}"), ("X: a\rContent-Length: 2\r\n", "{}"), (": x\r\n", ""),
    ("Host: y\r\nContent-Length: 2\r\n", "{}"), ("Content-Type: a\x80\r\nContent-Length: 2\r\n", "{}"),
    ("X-Request-Id: \xff\xfe\r\nContent-Length: 2\r\n", "{}"), ("Upgrade: websocket\r\nConnection: Upgrade\r\n", ""),
])
def test_what_two_servers_could_read_in_two_ways_is_refused_and_ends_the_connection(
        front: Serving, headers: str, body: str) -> None:
    before = front.events()
    smuggled = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n"
    answer = front.say(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{BEARER}{headers}\r\n{body}{smuggled}".encode("latin-1"))
    assert parse(answer)[0] == 400
    assert len(re.findall(rb"^HTTP/", answer, re.MULTILINE)) == 1, "the connection goes on after it"
    assert front.events() == before


def test_what_reaches_vllm_is_what_came_and_no_more(front: Serving) -> None:
    sent = (f"{BEARER}Content-Type: application/json\r\nCookie: c\r\nX-Forwarded-For: 1.2.3.4\r\nTE: trailers\r\n"
            "X-Request-Id: r1\r\nPriority: 9\r\n")
    status, body = front.ask("POST", "/tokenize?token=secret", sent, b'{"a": 1}')
    seen = json.loads(body)
    assert (status, seen["target"], seen["length"]) == (200, "/tokenize", 8)
    assert {name.lower(): value for name, value in seen["headers"]} == {
        "host": "vllm", "content-type": "application/json", "x-request-id": "r1", "content-length": "8"}


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_arrives_whole(front: Serving, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{BEARER}"
    if chunked:
        pieces = [body[at:at + 70_001] for at in range(0, size, 70_001)]
        coded = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: t\r\n\r\n"
        answer = front.say(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + coded)
    else:
        answer = front.say(f"{head}Content-Length: {size}\r\n\r\n".encode() + body)
    seen = json.loads(parse(answer)[1])
    assert (seen["length"], seen["sha256"]) == (size, hashlib.sha256(body).hexdigest())


def test_a_client_that_asks_first_is_told_to_go_on_only_with_a_key(front: Serving) -> None:
    def expecting(headers: str) -> bytes:
        with front.connect() as connection:
            connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: 2\r\n"
                               "Expect: 100-continue\r\n\r\n".encode())
            first = connection.recv(1000)
            connection.sendall(b"{}")
            return first + everything(connection)

    assert expecting(BEARER).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert expecting("").startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("value", [
    "", KEY, f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}k", "Bearer ", "Bearer", f"Bearer {KEY},{OTHER}",
    f"Bearer {KEY} {OTHER}", f"Token {KEY}",
])
def test_a_wrong_key_is_denied_and_not_logged(front: Serving, value: str) -> None:
    status, body = front.ask("GET", "/v1/models", f"Authorization: {value}\r\n")
    assert status == 401
    assert "Authorization: Bearer KEY" in json.loads(body)["error"]["message"]
    assert KEY[:-1] not in front.log()


@pytest.mark.parametrize(("headers", "status"), [
    (f"Authorization: Bearer {OTHER}\r\n", 200),
    (f"authorization: bearer {KEY}\r\n", 200), (f"x-api-key: {KEY}\r\n", 200),
    (f"{BEARER}{BEARER}", 401), (f"{BEARER}x-api-key: {KEY}\r\n", 401), (f"x-api-key: {KEY}\r\nx-api-key: y\r\n", 401),
])
def test_one_key_is_given_as_clients_of_openai_or_of_anthropic_do(front: Serving, headers: str, status: int) -> None:
    assert front.ask("GET", "/v1/models", headers)[0] == status


def test_one_model_is_found_in_the_list(front: Serving) -> None:
    for target in ("/v1/models/canary", "/v1/models/org/model", "/v1/models/org%2Fmodel"):
        status, body = front.ask("GET", target)
        assert (status, json.loads(body)["object"]) == (200, "model")
    status, body = front.ask("GET", "/v1/models/other")
    assert (status, "no model 'other'" in json.loads(body)["error"]["message"]) == (404, True)


def test_only_the_listed_part_of_a_query_goes_on(front: Serving) -> None:
    _, body = front.ask("GET", "/v1/responses/resp_1?stream=true&evil=%0d%0aX&starting_after=3%20")
    assert json.loads(body)["target"] == "/v1/responses/resp_1?stream=true&starting_after=3+"


def test_pieces_of_a_stream_come_as_the_engine_sends_them(front: Serving) -> None:
    """The first one is there while the engine is silent: it is held back for no second one."""
    before, seen = front.events().count("given up"), b""
    with front.connect() as connection:
        connection.sendall(front.chat(stream=1, fall=1))
        while b'"number": 0' not in seen:
            piece = connection.recv(1 << 16)
            assert piece, seen
            seen += piece
    until(lambda: front.events().count("given up") > before, "the engine works for nobody")


def test_a_client_that_goes_ends_its_request(front: Serving) -> None:
    for asked in ({"hang": 50.0}, {"stream": 1000.0, "gap": 0.05}):
        (front.directory / "engine").write_text("")
        with front.connect() as connection:
            connection.sendall(front.chat(**asked))
            until(lambda: "begun" in front.events(), "the engine has no request")
            if "stream" in asked:
                connection.recv(100)
        until(lambda: "given up" in front.events(), "the engine works for nobody")


def test_a_stream_that_breaks_off_does_not_look_whole(front: Serving) -> None:
    answer = front.say(front.chat(stream=2, **{"break": 1}))
    assert b'"number": 0' in answer
    assert not answer.endswith(b"0\r\n\r\n")
    old = front.say(front.chat(stream=2).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert old.endswith(b"data: [DONE]\n\n")


def test_a_short_answer_that_breaks_off_is_an_error(front: Serving) -> None:
    status, body = parse(front.say(front.chat(short=1).replace(b"Host: x", b"Host: x\r\nConnection: close")))
    assert (status, json.loads(body)["error"]["message"]) == (502, "the server broke off")


def test_a_foreign_path_is_not_written_to_the_log(front: Serving) -> None:
    front.ask("GET", "/forged%0aline")
    front.ask("GET", "/forged", "")
    assert "forged" not in front.log()


def test_only_allowed_addresses_are_heard(tmp_path: Path) -> None:
    with serving(tmp_path, "10.1.0.0/16", "fd00::/8", engine=False, health=403) as one:
        status, body = one.ask("GET", "/v1/models")
        assert (status, json.loads(body)["error"]["message"]) == (403, "not from this address")


def test_an_engine_that_is_away_is_reported_in_json(tmp_path: Path) -> None:
    with serving(tmp_path, engine=False, health=503) as one:
        for method, target in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/models/canary")):
            status, body = one.ask(method, target)
            assert (status, json.loads(body)["error"]["type"]) == (503, "server_error")
        assert one.ask("GET", "/v1/models", "")[0] == 401


def test_whoever_reads_that_it_listens_can_connect(tmp_path: Path) -> None:
    """Also when it is asked in that very moment: the line comes after the socket listens, not before."""
    said, bound = list[str](), listening_socket(("127.0.0.1", 0))
    address = bound.getsockname()

    def log(text: str) -> None:
        said.append(text)
        if "listens" in text:
            socket.create_connection(address, timeout=5).close()
            asyncio.get_running_loop().call_soon(lambda: tasks[0].cancel())

    async def run() -> None:
        front = f.Front(f.Engine(tmp_path / "none", f.Limits().buffered), parse_access(f"{KEY}\n".encode(), "keys"),
                        limits=f.Limits())
        tasks.append(asyncio.create_task(f.serve(front, bound, log)))
        await asyncio.wait(tasks)

    tasks = list[asyncio.Task[None]]()
    turns.run(run())
    assert said == [f"the front listens on 127.0.0.1:{address[1]}"]
