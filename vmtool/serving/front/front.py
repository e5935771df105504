"""What happens to a request: from its peer's address to the last byte of vLLM's answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import cast

from aiohttp import web

from vmtool.serving.access_list import AccessList
from vmtool.serving.evidence.binding import PATH as EVIDENCE
from vmtool.serving.evidence.collect import collect
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.nvml import Devices, collect_devices
from vmtool.serving.front.access import Network, check_peer, no_key, shown_digest
from vmtool.serving.front.account import Account
from vmtool.serving.front.clients import Client, Clients
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.crowd import Crowd, Peer
from vmtool.serving.front.denied import Denied, answer
from vmtool.serving.front.engine import Engine
from vmtool.serving.front.evidence import GuestEvidence
from vmtool.serving.front.form import check_form, go_on, passed_on
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.log import BoundedLog
from vmtool.serving.front.metrics import Metrics
from vmtool.serving.front.pool import NotUp
from vmtool.serving.front.relay import forward
from vmtool.serving.front.rooms import CLOSED_SECONDS, Bodies, Requests
from vmtool.serving.front.routes import Match, find, methods
from vmtool.serving.front.tls import Tls


class Front:
    """Answers requests.

    Args:
        engine: where they go.
        access: who may ask; of keys and tokens only the digests are kept.
        allow_from: networks a peer may come from; empty for any.
        limits: what clients can hold.
        metric_names: see `Metrics`.
        log: receives one line per request, as many as the limits allow; never a key, a header or a body.
        ask_guest, ask_devices: give evidence of what this runs in, and of its GPUs, over 32 bytes.
    """

    def __init__(self, engine: Engine, access: AccessList, *, allow_from: Iterable[Network] = (),
                 limits: Limits, metric_names: Iterable[str] = (), log: Callable[[str], None] = print,
                 ask_guest: Callable[[bytes], Collected | None] = collect,
                 ask_devices: Callable[[bytes], Devices] = collect_devices) -> None:
        self.engine, self.limits, self.allow_from = engine, limits, tuple(allow_from)
        self.tls = Tls(access.certificates) if access.certificates else None
        self.clients, self.requests, self.bodies = Clients(access), Requests(limits), Bodies(limits)
        self.evidence = GuestEvidence(limits, ask_guest, ask_devices=ask_devices)
        self.metrics = Metrics(self.clients, engine, metric_names)
        self.crowd: Crowd[Peer] = Crowd(limits)
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

    def leave(self) -> int:
        """Take leave: each answer is the last on its connection, and those that wait are ended; how many are left."""
        if not self.crowd.leaving:
            self.crowd.leaving, now = True, asyncio.get_running_loop().time()
            for connection in self.crowd:
                connection.leave(now)
        return len(self.crowd)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        connection = cast(Connection, request.protocol)
        match = find(request.method, request.raw_path)
        began, status, client = time.monotonic(), 0, None
        with connection.answering(request):
            try:
                # Who sends request upon request without reading the answers is not heard until the last one is taken.
                await request.writer.drain()
                check_form(request)
                check_peer(connection.host, self.allow_from)
                client = self.clients.by_digest.get(shown_digest(request))
                if match and not match.route.keyed:
                    return connection.one_by_one(await self._open(request, connection, match, client))
                if not client:
                    raise no_key()
                connection.show_key(client.share)
                await client.share.turn()
                response = await self._answer(request, connection, match, client, began)
                connection.last(response)
                status = response.status
                return response
            except Denied as denied:
                status = denied.status
                if not client:
                    connection.show_none()
                await connection.share.turn()
                return denied_response(request, connection, denied, client)
            finally:
                if not match or match.route.keyed:
                    shown = match.route if match else "other"  # a foreign path may hold anything
                    taken = time.monotonic() - began
                    self.metrics.count(str(shown), client.token.name if client else "", status, taken)
                    (self.log if client else self.log_denied)(f"{shown} {status or 'aborted'} {taken:.3f} s")

    async def _open(self, request: web.BaseRequest, connection: Connection, match: Match, client: Client | None
                    ) -> web.Response:
        """What needs no key; who shows one all the same is not among those who have none."""
        if client:
            connection.show_key(client.share)
        await connection.share.turn()
        if match.route.path == EVIDENCE:
            query = request.raw_path.partition("?")[2]
            # What the guest's device needs is not this peer's slowness.
            connection.until = asyncio.get_running_loop().time() + self.limits.evidence_seconds
            return await self.evidence.respond(query, connection.address, connection.key,
                                               client.token.name if client else "")
        return await self._health()

    async def _health(self) -> web.Response:
        if self.requests.closed:
            return answer(503, {"status": "stopping"}, {"Retry-After": f"{CLOSED_SECONDS:.0f}"})
        if await self.engine.up():
            return answer(200, {"status": "ok"})
        return answer(503, {"status": self.engine.phase}, {"Retry-After": self.engine.retry_after()})

    async def _answer(self, request: web.BaseRequest, connection: Connection, match: Match | None,
                      client: Client, began: float) -> web.StreamResponse:
        if not match:
            if served := methods(request.raw_path):
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
                asked = self.engine.ask(match.route.method, match.target, headers, body, client.share)
                account = Account(client, size, lambda: self.metrics.first.labels(str(match.route)).observe(
                    time.monotonic() - began))
                return await forward(request, connection, asked, account, self.limits,
                                     lambda error: self.engine.explain(error, self.limits.engine_seconds))

    async def _model(self, name: str, client: Client) -> web.Response:
        """One model of the list: vLLM has no route for it, and OpenAI's clients ask for it."""
        try:
            async with asyncio.timeout(self.limits.engine_seconds):
                entries = await self.engine.models()
        except (OSError, ValueError):
            raise self.engine.explain(NotUp(), self.limits.engine_seconds) from None
        for entry in entries:
            if entry.get("id") == name:
                return answer(200, entry, client.headers())
        raise Denied(404, f"there is no model {name!r} here; GET /v1/models lists them")


def denied_response(request: web.BaseRequest, connection: Connection, denied: Denied,
                    client: Client | None) -> web.Response:
    """What a client gets, and whether its connection goes on."""
    response = denied.response()
    connection.last(response)
    if denied.status == 400 or not request.content.is_eof():
        response.force_close()
    if not client:
        return connection.one_by_one(response)
    response.headers.update(client.headers())
    return response
