"""The second listener, for the host alone: who may ask from now on, and what each has used.

    GET /access     names, limits and what was used, of each key and token
    PUT /access     the list of `vmtool.serving.access_list`, which replaces the one in use
    PUT /drain      take leave of the clients, since another front has taken over; how many connections are left
    PUT /close      answer nothing new, since it is about to be stopped; how many requests are being answered
    GET /metrics    for Prometheus

Whoever asks shows the manager's key, which no client has; for the metrics the scraper's will do, from further networks.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from vmtool.serving.access_list import LIMITS, AccessList, parse
from vmtool.serving.front.access import Network, check_peer, no_key, shown_digest
from vmtool.serving.front.clients import Client
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import SERVER, Busy, Denied, answer
from vmtool.serving.front.form import check_form
from vmtool.serving.front.front import Front
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.rooms import Bodies
from vmtool.serving.turns import Share

LIMITS_HERE = Limits(connections=64, keyless_per_address=32, body=1 << 20, small_body=1 << 20, requests=8)
# Scrapes at once, and how long one may take; the text in pieces of that size.
SCRAPES, SCRAPE_SECONDS, PIECE = 4, 10.0, 16 << 10


class Manage:
    """Answers the host.

    Args:
        manager: the digest of the manager's key; nobody has an empty one.
        allow_from: networks that it may be asked from: the host's own address. scrape_from: more, for the metrics.
        say: receives a line for each change.
    """

    def __init__(self, front: Front, access: AccessList, allow_from: Iterable[Network],
                 scrape_from: Iterable[Network] = (), say: Callable[[str], None] = print) -> None:
        self.front, self.access, self.allow_from, self.say = front, access, tuple(allow_from), say
        self.scrape_from = (*self.allow_from, *scrape_from)
        self.bodies, self.scraping, self.share = Bodies(LIMITS_HERE), 0, Share()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        connection = cast(Connection, request.protocol)
        with connection.answering(request):
            try:
                await request.writer.drain()
                check_form(request)
                scrapes = request.raw_path == "/metrics"
                check_peer(connection.host, self.scrape_from if scrapes else self.allow_from)
                self._check_key(request, scrapes=scrapes)
                connection.show_key(self.share)
                return await (self._metrics(request, connection) if scrapes else self._answer(request))
            except Denied as denied:
                response = denied.response()
                response.force_close()
                return connection.one_by_one(response)

    def _check_key(self, request: web.BaseRequest, *, scrapes: bool) -> None:
        shown = shown_digest(request)
        known = (self.access.manager, self.access.scraper) if scrapes else (self.access.manager,)
        if not shown or not any(hmac.compare_digest(shown, each) for each in known):
            raise no_key()

    async def _metrics(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """The text, bit by bit: who does not take it is left."""
        if request.method != "GET":
            raise Denied(405, "served by GET only", {"Allow": "GET"})
        if self.scraping >= SCRAPES:
            raise Busy(503, f"{SCRAPES} scrapes at once; try again")
        self.scraping += 1
        try:
            text = await self.front.metrics.text()
            response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE_LATEST, "Server": SERVER,
                                                   "Content-Length": str(len(text))})
            async with asyncio.timeout(SCRAPE_SECONDS):
                await response.prepare(request)
                for at in range(0, len(text), PIECE):
                    await response.write(text[at:at + PIECE])
                    await request.writer.drain()
                await response.write_eof()
            return response
        except TimeoutError:
            connection.drop()
            raise ConnectionError("the scraper does not read") from None
        finally:
            self.scraping -= 1

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if (request.method, request.raw_path) == ("PUT", "/drain"):
            return answer(200, {"connections": self.front.leave()})
        if (request.method, request.raw_path) == ("PUT", "/close"):
            return answer(200, {"requests": self.front.requests.close()})
        if request.raw_path != "/access" or request.method not in ("GET", "PUT"):
            raise Denied(404, "GET and PUT /access, PUT /drain, PUT /close and GET /metrics are all that there is")
        if request.method == "PUT":
            with self.bodies.body() as body:
                await body.read(request)
                self._change(bytes(body.data))
        return answer(200, {"tokens": [shown(client) for client in self.front.clients]})

    def _change(self, data: bytes) -> None:
        try:
            access = parse(data, "the list")
        except ValueError as error:
            raise Denied(422, f"{error}; what was in use stays in use") from None
        if not access.manager:
            raise Denied(422, "the list names no manager; what was in use stays in use")
        try:
            self.front.change(access)
        except ValueError as error:
            raise Denied(422, f"{error}; what was in use stays in use") from None
        self.access = access
        self.say(f"{len(access.tokens)} keys and tokens may ask from now on")


def shown(client: Client) -> dict[str, Any]:
    """One client, without its secret. Times are ages: the host's clock may be another."""
    token, usage = client.token, client.usage
    return {"name": token.name, "digest": token.digest.hex(), **{name: getattr(token, name) for name in LIMITS},
            "in_flight": len(client.running), "asked": usage.requests, "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "idle_seconds": None if usage.last is None else round(time.monotonic() - usage.last, 3)}
