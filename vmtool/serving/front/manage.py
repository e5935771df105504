"""The second listener, for the host alone: who may ask from now on, and what each has used.

    GET /access     names, limits and what was used, of each key and token
    PUT /access     the list of `vmtool.serving.access_list`, which replaces the one in use

Whoever asks shows the manager's key, which no client has.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from aiohttp import web

from vmtool.serving.access_list import LIMITS, parse
from vmtool.serving.front.access import Network, check_peer, no_key, shown_digest
from vmtool.serving.front.clients import Client
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import Denied, answer
from vmtool.serving.front.form import check_form
from vmtool.serving.front.front import Front
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.rooms import Bodies

LIMITS_HERE = Limits(connections=64, keyless_per_address=32, body=1 << 20, small_body=1 << 20, requests=8)


class Manage:
    """Answers the host.

    Args:
        manager: the digest of the manager's key; nobody has an empty one.
        allow_from: networks that it may be asked from: the host's own address.
        say: receives a line for each change.
    """

    def __init__(self, front: Front, manager: bytes, allow_from: Iterable[Network],
                 say: Callable[[str], None] = print) -> None:
        self.front, self.manager, self.allow_from, self.say = front, manager, tuple(allow_from), say
        self.bodies = Bodies(LIMITS_HERE)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        connection = cast(Connection, request.protocol)
        with connection.answering(request):
            try:
                await request.writer.drain()
                check_form(request)
                check_peer(connection.host, self.allow_from)
                if not self.manager or not hmac.compare_digest(shown_digest(request), self.manager):
                    raise no_key()
                connection.show_key()
                return await self._answer(request)
            except Denied as denied:
                response = denied.response()
                response.force_close()
                return connection.one_by_one(response)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.message.path != "/access" or request.method not in ("GET", "PUT"):
            raise Denied(404, "GET /access and PUT /access are all that there is")
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
        self.manager = access.manager
        self.say(f"{len(access.tokens)} keys and tokens may ask from now on")


def shown(client: Client) -> dict[str, Any]:
    """One client, without its secret. Times are ages: the host's clock may be another."""
    token, usage = client.token, client.usage
    return {"name": token.name, "digest": token.digest.hex(), **{name: getattr(token, name) for name in LIMITS},
            "in_flight": len(client.running), "asked": usage.requests, "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "idle_seconds": None if usage.last is None else round(time.monotonic() - usage.last, 3)}
