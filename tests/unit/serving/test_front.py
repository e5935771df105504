"""The front, in-process: nothing gets through but what is listed, from an allowed address, with a key."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx
import pytest

from vmtool.serving import front as f

KEY = "k" * 32
OTHER = "o" * 32
BEARER = {"authorization": f"Bearer {KEY}"}
CHAT = "/v1/chat/completions"


class Upstream(httpx.AsyncBaseTransport):
    """A vLLM that remembers what reached it."""

    def __init__(self, answer: httpx.Response | Exception | None = None) -> None:
        self.answer = answer
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/health":
            self.seen.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        answer = self.answer or httpx.Response(200, json={"path": request.url.path})
        # A response that is not read yet, as it comes from a socket.
        stream = httpx.ByteStream(answer.content) if answer.is_stream_consumed else answer.stream
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)


class Chunks(httpx.AsyncByteStream):
    """A body that goes on for ever; tells when it was closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b"data: x\n\n"
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        self.closed.set()


class Harness:
    """The front with a client before it and a fake vLLM behind it."""

    def __init__(self, answer: httpx.Response | Exception | None = None, **options: Any) -> None:
        self.upstream = Upstream(answer)
        self.lines: list[str] = []
        self.front = f.Front(self.upstream, (KEY.encode(), OTHER.encode()), log=self.lines.append, **options)

    def ask(self, method: str, path: str, peer: str = "10.0.0.2", **options: Any) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.front, client=(peer, 1234))
            async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
                return await client.request(method, path, **options)

        return asyncio.run(one())


def scope(path: str = CHAT, **changes: Any) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    return {"type": "http", "method": "POST", "path": path, "headers": headers, "client": ("10.0.0.2", 1), **changes}


@pytest.mark.parametrize(("method", "path"), sorted(f.ROUTES))
def test_what_is_listed_passes_with_a_key_and_only_then(method: str, path: str) -> None:
    harness = Harness()
    assert harness.ask(method, path).status_code == 401
    assert harness.upstream.seen == []
    answer = harness.ask(method, path, headers=BEARER)
    assert (answer.status_code, answer.json()) == (200, {"path": path})


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/invocations"), ("GET", "/metrics"), ("POST", "/tokenize"), ("GET", "/docs"), ("GET", "/openapi.json"),
    ("POST", "/v1/models"), ("GET", CHAT), ("OPTIONS", CHAT), ("GET", "/v1/models/"), ("GET", "//v1/models"),
    ("GET", "/v1/models/../../metrics"), ("POST", "/v1/load_lora_adapter"), ("GET", "/"), ("POST", "/health"),
    ("GET", "/v1/models%2f..%2f..%2fmetrics"), ("POST", "/V1/chat/completions"),
])
def test_everything_else_is_denied_and_never_reaches_vllm(method: str, path: str) -> None:
    harness = Harness()
    assert harness.ask(method, path).status_code == 401
    assert harness.ask(method, path, headers=BEARER).status_code == 404
    assert harness.upstream.seen == []


@pytest.mark.parametrize("value", [
    "", KEY, f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}k", "Bearer ", "Bearer", f"Bearer {KEY},{OTHER}",
])
def test_a_wrong_key_is_denied_and_not_logged(value: str) -> None:
    harness = Harness()
    answer = harness.ask("GET", "/v1/models", headers={"authorization": value})
    assert answer.status_code == 401
    assert "Authorization: Bearer KEY" in answer.json()["error"]["message"]
    assert KEY[:-1] not in "".join(harness.lines)


def test_each_key_of_the_file_is_valid_and_the_scheme_may_be_written_small() -> None:
    harness = Harness()
    for value in (f"Bearer {OTHER}", f"bearer {KEY}"):
        assert harness.ask("GET", "/v1/models", headers={"authorization": value}).status_code == 200


def test_two_authorization_headers_are_denied() -> None:
    headers = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer x")]
    assert Harness().ask("GET", "/v1/models", headers=headers).status_code == 401


def test_health_needs_no_key_and_follows_vllm() -> None:
    up, down = Harness(), Harness(httpx.ConnectError("no socket yet"))
    assert (up.ask("GET", "/health").status_code, up.ask("GET", "/health").json()) == (200, {"status": "ok"})
    assert (down.ask("GET", "/health").status_code, down.ask("GET", "/health").json()) == (503, {"status": "starting"})
    assert Harness(httpx.Response(500)).ask("GET", "/health").status_code == 503
    assert up.lines == []


@pytest.mark.parametrize(("peer", "status"), [
    ("10.1.2.3", 200), ("10.2.0.1", 403), ("::ffff:10.1.9.9", 200), ("fd00::1", 200), ("fd01::1", 403),
])
def test_only_allowed_addresses_are_heard(peer: str, status: int) -> None:
    allowed = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/16"))
    harness = Harness(allow_from=allowed)
    assert harness.ask("GET", "/v1/models", peer, headers=BEARER).status_code == status
    assert harness.ask("GET", "/health", peer).status_code == status


def test_only_what_vllm_reads_is_passed_on() -> None:
    harness = Harness()
    sent = {**BEARER, "content-type": "application/json", "cookie": "c", "x-forwarded-for": "1.2.3.4", "te": "trailers",
            "connection": "x-request-id", "host": "evil"}
    harness.ask("POST", f"{CHAT}?token=secret", headers=sent, content=b'{"a": 1}')
    (request,) = harness.upstream.seen
    assert set(request.headers) & {"authorization", "cookie", "x-forwarded-for", "te"} == set()
    assert (request.headers["host"], request.headers["content-type"]) == ("vllm", "application/json")
    assert (str(request.url), request.content) == (f"http://vllm{CHAT}", b'{"a": 1}')
    assert harness.lines[0].startswith(f"POST {CHAT} 200 ")


def test_hop_by_hop_headers_of_the_answer_end_here() -> None:
    headers = {"connection": "close, x-inner", "x-inner": "1", "keep-alive": "5", "server": "uvicorn", "x-kept": "yes",
               "content-type": "text/plain"}
    answer = Harness(httpx.Response(200, headers=headers, text="hi")).ask("GET", "/v1/models", headers=BEARER)
    assert answer.text == "hi"
    assert answer.headers["x-kept"] == "yes"
    assert not {"connection", "x-inner", "keep-alive", "server"} & set(answer.headers)


@pytest.mark.parametrize(("error", "status"), [
    (httpx.ConnectError("refused"), 503), (httpx.RemoteProtocolError("closed"), 502), (httpx.ReadError("gone"), 502),
])
def test_a_vllm_that_is_away_is_told_in_json(error: Exception, status: int) -> None:
    answer = Harness(error).ask("POST", CHAT, headers=BEARER, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)


def test_a_body_that_is_too_large_is_refused_by_announcement_and_by_count() -> None:
    harness = Harness(max_body=10)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"12345"

    assert harness.ask("POST", CHAT, headers=BEARER, content=b"x" * 11).status_code == 413
    assert harness.ask("POST", CHAT, headers=BEARER, content=pieces()).status_code == 413
    assert harness.ask("POST", CHAT, headers={**BEARER, "content-length": "-1"}, content=b"x").status_code == 413
    assert harness.upstream.seen == []
    assert harness.ask("POST", CHAT, headers=BEARER, content=b"x" * 10).status_code == 200


def test_a_slow_body_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f, "BODY_SECONDS", 0.01)

    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(5)
        yield b""

    assert Harness().ask("POST", CHAT, headers=BEARER, content=never()).status_code == 408


def test_a_stream_is_passed_on_piece_by_piece_and_given_up_when_the_client_goes() -> None:
    async def story() -> None:
        chunks = Chunks()
        harness = Harness(httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=chunks))
        sent: list[Any] = []
        enough = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 4:
                enough.set()

        async with asyncio.timeout(60):
            await harness.front(scope(), receiver(enough), send)
        assert [message["type"] for message in sent[:2]] == ["http.response.start", "http.response.body"]
        assert sent[1] == {"type": "http.response.body", "body": b"data: x\n\n", "more_body": True}
        assert chunks.closed.is_set()

    asyncio.run(story())


def test_a_client_that_goes_before_the_answer_ends_the_request() -> None:
    async def story() -> None:
        gone = asyncio.Event()
        cancelled = asyncio.Event()

        class Slow(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                gone.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.set()
                    raise
                raise AssertionError

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        front = f.Front(Slow(), (KEY.encode(),), log=lambda line: None)
        async with asyncio.timeout(60):
            await front(scope(), receiver(gone), send)
        assert cancelled.is_set()
        assert sent == []

    asyncio.run(story())


def test_a_shutdown_is_not_taken_for_a_client_that_went() -> None:
    async def story() -> None:
        started = asyncio.Event()
        chunks = Chunks()
        harness = Harness(httpx.Response(200, stream=chunks))

        async def send(message: Any) -> None:
            started.set()

        task: asyncio.Task[None] = asyncio.create_task(
            harness.front(scope(), receiver(asyncio.Event()), send))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert chunks.closed.is_set()

    asyncio.run(story())


def test_web_sockets_are_not_spoken() -> None:
    def call() -> Coroutine[Any, Any, None]:
        async def nothing(*args: Any) -> Any:
            raise AssertionError

        return Harness().front({"type": "websocket"}, nothing, nothing)

    with pytest.raises(RuntimeError, match="HTTP only"):
        asyncio.run(call())


def test_a_foreign_path_is_not_written_to_the_log() -> None:
    harness = Harness()
    harness.ask("GET", "/x%0a2026 forged line")
    assert [line.split(" ", 1)[0] for line in harness.lines] == ["other"]
    assert "forged" not in json.dumps(harness.lines)


def receiver(gone: asyncio.Event) -> f.Receive:
    """An ASGI receive: an empty body, then the client goes when told."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive
