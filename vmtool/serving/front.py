"""The only thing that listens: a deny-by-default reverse proxy from TCP to vLLM's Unix socket.

vLLM's own API key guards some prefixes only (in 0.32 `/invocations`, `/tokenize` and `/metrics` answer without
one), so nothing reaches vLLM but what `ROUTES` lists, from an allowed address, with a key. `/health` needs no key.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import httpx

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ROUTES = frozenset({
    ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"),
})
PASSED_ON = (b"content-type", b"accept", b"x-request-id")
HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "proxy-connection", "date", "server",
})
MAX_BODY = 16 << 20
BODY_SECONDS = 60.0


class Denied(Exception):
    """A request that goes no further: HTTP status and a sentence for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Front:
    """An ASGI application.

    Args:
        transport: how to reach vLLM, such as `httpx.AsyncHTTPTransport(uds=...)`.
        keys: valid API keys.
        allow_from: networks a peer may come from; empty for any.
        log: receives one line per request that reached vLLM or was denied; never a key, a header or a body.
        max_body: bytes that a request's body may have.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, keys: Iterable[bytes], *,
                 allow_from: Iterable[Network] = (), log: Callable[[str], None] = print,
                 max_body: int = MAX_BODY) -> None:
        self.client = httpx.AsyncClient(transport=transport, base_url="http://vllm", timeout=httpx.Timeout(None))
        self.keys = tuple(keys)
        self.allow_from = tuple(allow_from)
        self.log = log
        self.max_body = max_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no WebSocket, and the server is run with lifespan off
            raise RuntimeError(f"the front speaks HTTP only, not {scope['type']}")
        began = time.monotonic()
        route = (scope["method"], scope["path"])
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._answer(scope, receive, counted)
        except Denied as denied:
            await _send_json(counted, denied.status, {"error": {"message": denied.message, "code": denied.status}})
        finally:
            if route[1] != "/health":
                shown = " ".join(route) if route in ROUTES else "other"  # a foreign path may hold anything
                self.log(f"{shown} {status or 'aborted'} {time.monotonic() - began:.3f} s")

    async def up(self) -> bool:
        """Whether vLLM answers its own /health."""
        try:
            return (await self.client.get("/health", timeout=5.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        self._check_peer(scope.get("client"))
        route = (scope["method"], scope["path"])
        if route in (("GET", "/health"), ("HEAD", "/health")):
            up = await self.up()
            return await _send_json(send, 200 if up else 503, {"status": "ok" if up else "starting"})
        self._check_key(scope["headers"])
        if route not in ROUTES:
            raise Denied(404, "not served here")
        # Only what was matched goes on: no query, no raw path, no header but the few that vLLM reads.
        headers = [(name, value) for name, value in scope["headers"] if name in PASSED_ON]
        body = await self._read_body(scope["headers"], receive)
        request = self.client.build_request(route[0], route[1], headers=headers, content=body)
        await _until_disconnect(receive, self._forward(request, send))

    def _check_peer(self, client: tuple[str, int] | None) -> None:
        if not self.allow_from:
            return
        address = ipaddress.ip_address(client[0]) if client else None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if address is None or not any(address in network for network in self.allow_from):
            raise Denied(403, "not from this address")

    def _check_key(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # Every key is compared, each in constant time, so that time shows neither how much nor which one matched.
        matches = [hmac.compare_digest(key.strip(), valid) for valid in self.keys]
        if scheme.lower() != b"bearer" or not any(matches):
            raise Denied(401, "a valid API key is needed: Authorization: Bearer KEY")

    async def _read_body(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> bytes:
        announced = next((value for name, value in headers if name == b"content-length"), b"0")
        too_large = Denied(413, f"the body may have {self.max_body} bytes")
        if not announced.isdigit() or int(announced) > self.max_body:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while (message := await receive())["type"] == "http.request":
                    body += message.get("body", b"")
                    if len(body) > self.max_body:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Denied(408, f"the body took longer than {BODY_SECONDS:.0f} s") from None
        raise Denied(400, "the client went away")

    async def _forward(self, request: httpx.Request, send: Send) -> None:
        try:
            response = await self.client.send(request, stream=True)
        except httpx.ConnectError:
            raise Denied(503, "vLLM is not up (yet): see /health") from None
        except httpx.HTTPError:
            raise Denied(502, "vLLM broke off") from None
        try:
            named = {name.strip().lower() for name in response.headers.get("connection", "").split(",")}
            headers = [(name.lower(), value) for name, value in response.headers.raw
                       if name.lower().decode("latin-1") not in HOP_BY_HOP | named]
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            async for chunk in response.aiter_raw():  # as it comes, so that server-sent events are not held back
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()


async def _until_disconnect(receive: Receive, work: Any) -> None:
    """Do the work, but cancel it when the client goes away: vLLM then stops generating for nobody."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    try:
        await working
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current and current.cancelling():
            raise


async def _send_json(send: Send, status: int, value: object) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
