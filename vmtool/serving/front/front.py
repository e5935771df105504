"""What happens to a request: from its peer's address to the last byte of vLLM's answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import cast

from aiohttp import web

from vmtool.serving.access_list import AccessList
from vmtool.serving.front.access import Network, check_peer, no_key, shown_digest
from vmtool.serving.front.account import Account
from vmtool.serving.front.clients import Client, Clients
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import Denied, answer
from vmtool.serving.front.engine import Engine, NotUp
from vmtool.serving.front.form import check_form, go_on, passed_back, passed_on
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.log import BoundedLog
from vmtool.serving.front.metrics import Metrics
from vmtool.serving.front.rooms import Bodies, Requests
from vmtool.serving.front.routes import Match, find, methods
from vmtool.serving.front.tls import Tls
from vmtool.serving.front.upstream import Upstream


class Front:
    """Answers requests.

    Args:
        engine: where they go.
        access: who may ask; of keys and tokens only the digests are kept.
        allow_from: networks a peer may come from; empty for any.
        limits: what clients can hold.
        metric_names: see `Metrics`.
        log: receives one line per request, as many as the limits allow; never a key, a header or a body.
    """

    def __init__(self, engine: Engine, access: AccessList, *, allow_from: Iterable[Network] = (),
                 limits: Limits, metric_names: Iterable[str] = (), log: Callable[[str], None] = print) -> None:
        self.engine, self.limits, self.allow_from = engine, limits, tuple(allow_from)
        self.tls = Tls(access.certificates) if access.certificates else None
        self.clients, self.requests, self.bodies = Clients(access), Requests(limits), Bodies(limits)
        self.metrics = Metrics(self.clients, engine, metric_names)
        with_key, without = limits.log_lines
        self.log, self.log_denied = BoundedLog(log, with_key, "requests"), BoundedLog(log, without, "denied requests")

    def change(self, access: AccessList) -> None:
        """From now on these may ask, and new connections see this certificate.

        Raises:
            ValueError: the certificate cannot be used, or TLS would begin or end.
        """
        if (self.tls is None) != (access.certificates is None):
            raise ValueError("TLS begins and ends with a new start only")
        if self.tls and access.certificates:
            self.tls.change(access.certificates)
        self.clients.change(access)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        connection = cast(Connection, request.protocol)
        match = find(request.method, request.message.path)
        began, status, client = time.monotonic(), 0, None
        with connection.answering(request):
            try:
                # Who sends request upon request without reading the answers is not heard until the last one is taken.
                await request.writer.drain()
                check_form(request)
                check_peer(connection.host, self.allow_from)
                if match and not match.route.keyed:
                    return connection.one_by_one(await self._health())
                client = self.clients.by_digest.get(shown_digest(request))
                if not client:
                    raise no_key()
                connection.show_key()
                response = await self._answer(request, connection, match, client, began)
                status = response.status
                return response
            except Denied as denied:
                status = denied.status
                return denied_response(request, connection, denied, client)
            finally:
                if not match or match.route.keyed:
                    shown = match.route if match else "other"  # a foreign path may hold anything
                    taken = time.monotonic() - began
                    self.metrics.count(str(shown), client.token.name if client else "", status, taken)
                    (self.log if client else self.log_denied)(f"{shown} {status or 'aborted'} {taken:.3f} s")

    async def _health(self) -> web.Response:
        up = await self.engine.up()
        if up:
            return answer(200, {"status": "ok"})
        return answer(503, {"status": self.engine.phase}, {"Retry-After": self.engine.retry_after()})

    async def _answer(self, request: web.BaseRequest, connection: Connection, match: Match | None,
                      client: Client, began: float) -> web.StreamResponse:
        if not match:
            if served := methods(request.message.path):
                raise Denied(405, f"served by {' and '.join(served)} only", {"Allow": ", ".join(served)})
            raise Denied(404, "not served here; README lists the routes")
        with self.requests.place(client, connection):
            if "{model}" in match.route.path:
                return await self._model(match.word, client)
            headers = passed_on(request.headers)
            with self.bodies.body(counted=match.route.counted) as body:
                await go_on(request)
                await body.read(request)
                size = len(body.data)
                asked = self.engine.ask(match.route.method, match.target, headers, body)
                account = Account(client, size, lambda: self.metrics.first.labels(str(match.route)).observe(
                    time.monotonic() - began))
                return await self._forward(request, connection, asked, account)

    async def _model(self, name: str, client: Client) -> web.Response:
        """One model of the list: vLLM has no route for it, and OpenAI's clients ask for it."""
        try:
            async with asyncio.timeout(self.limits.engine_seconds):
                entries = await self.engine.models()
        except (OSError, ValueError):
            raise self._not_up() from None
        for entry in entries:
            if entry.get("id") == name:
                return answer(200, entry, client.headers())
        raise Denied(404, f"there is no model {name!r} here; GET /v1/models lists them")

    async def _forward(self, request: web.BaseRequest, connection: Connection,
                       asked: AbstractAsyncContextManager[Upstream], account: Account) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self.limits.engine_seconds) as clock, asked as reply:
                with account.open(reply):
                    return await self._relay(request, reply, clock, account)
        except (OSError, TimeoutError) as error:
            if request.writer.output_size > 0:  # an answer that ends here must not look whole
                connection.drop()
                raise
            if isinstance(error, TimeoutError):
                raise Denied(504, f"no answer within {self.limits.engine_seconds:.0f} s") from None
            if isinstance(error, NotUp):
                raise self._not_up() from None
            raise Denied(502, "the server broke off", {"Retry-After": "1"}) from None

    async def _relay(self, request: web.BaseRequest, reply: Upstream, clock: asyncio.Timeout,
                     account: Account) -> web.StreamResponse:
        """Pass the answer on as it comes, so that server-sent events are not held back."""
        headers, reason = passed_back(reply.headers), reply.reason.decode("latin-1")
        if 0 <= reply.length < self.limits.buffered:
            # A short answer in one packet: head and body apart would be two.
            headers.popall("Content-Length", None)
            account.see(body := await reply.read_all())
            account.close()
            headers.update(account.client.headers())
            return web.Response(status=reply.status, reason=reason, headers=headers, body=body)
        now = asyncio.get_running_loop().time
        headers.update(account.client.headers())
        response = web.StreamResponse(status=reply.status, reason=reason, headers=headers)
        await response.prepare(request)
        while chunk := await reply.read():
            clock.reschedule(now() + self.limits.reader_seconds)
            account.see(chunk)
            await response.write(chunk)
            del chunk  # it waits in the transport's buffer
            await request.writer.drain()
            clock.reschedule(now() + self.limits.engine_seconds)
        account.close()
        await response.write_eof()
        return response

    def _not_up(self) -> Denied:
        return Denied(503, f"the server is {self.engine.phase}: see /health",
                      {"Retry-After": self.engine.retry_after()})


def denied_response(request: web.BaseRequest, connection: Connection, denied: Denied,
                    client: Client | None) -> web.Response:
    """What a client is told, and whether its connection goes on."""
    response = denied.response()
    if denied.status == 400 or not request.content.is_eof():
        response.force_close()
    if not client:
        return connection.one_by_one(response)
    response.headers.update(client.headers())
    return response
