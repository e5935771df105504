"""The local endpoint: what the server's front serves, asked over connections whose key is the verified one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import cast
from urllib.parse import urlsplit

from aiohttp import web

from vmtool.attest.server.dial import dial
from vmtool.attest.server.errors import NotVerified, Unreachable
from vmtool.attest.server.place import Place, is_loopback
from vmtool.connect.keeper import Keeper
from vmtool.serving.evidence.binding import PATH as EVIDENCE
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import Busy, Denied
from vmtool.serving.front.form import PASSED_ON, check_form, go_on, passed_on
from vmtool.serving.front.front import denied_response
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.pool import Pool
from vmtool.serving.front.relay import forward
from vmtool.serving.front.rooms import Bodies
from vmtool.serving.front.routes import Match, find, methods
from vmtool.serving.front.upstream import Upstream
from vmtool.serving.turns import Share

KEYS = ("Authorization", "X-Api-Key")
# The front ends a connection that has waited for 75 s.
KEEP_SECONDS = 30.0


class Withheld(ConnectionError):
    """There is no connection over which the request may go."""


class Unmetered:
    """Nobody counts what passes here."""

    def open(self, reply: Upstream) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def see(self, chunk: bytes) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def headers(self) -> Mapping[str, str]:
        return {}


class Proxy:
    """Answers the clients of this machine.

    Args:
        token: headers that take the place of a client's own key; empty when that passes through.
        exposed: whether others than this machine may ask.
    """

    def __init__(self, place: Place, limits: Limits, token: dict[str, str], *, exposed: bool = False) -> None:
        self.place, self.limits, self.token, self.exposed = place, limits, token, exposed
        self.bodies, self.running, self.share = Bodies(limits), set[Connection](), Share()
        self.pool = self._pool()
        self.keeper: Keeper

    def changed(self, cut: bool) -> None:
        """Another key, or none, is the verified one: no connection of before is used again.

        Args:
            cut: whether answers that are under way end here too.
        """
        self.pool.close()
        self.pool = self._pool()
        if cut:
            for connection in tuple(self.running):
                connection.drop()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        connection = cast(Connection, request.protocol)
        with connection.answering(request):
            try:
                await request.writer.drain()
                check_form(request)
                if not self.exposed:
                    check_local(request)
                connection.show_key(self.share)
                with self._place(connection):
                    return await self._answer(request, connection, find(request.method, request.raw_path))
            except Denied as denied:
                return denied_response(request, connection, denied, None)

    async def _answer(self, request: web.BaseRequest, connection: Connection, match: Match | None
                      ) -> web.StreamResponse:
        if not match or match.route.path == EVIDENCE:
            if (served := methods(request.raw_path)) and not match:
                raise Denied(405, f"served by {' and '.join(served)} only", {"Allow": ", ".join(served)})
            raise Denied(404, "not forwarded: `vmtool connect` forwards what vmtool's endpoints serve")
        self._require()
        headers = passed_on(request.headers, (*PASSED_ON, *(() if self.token else self._key(request)))) | self.token
        with self.bodies.body() as body:
            await go_on(request)
            await body.read(request)
            asked = self.pool.ask(match.route.method, match.target, headers, body, self.share)
            return await forward(request, connection, asked, Unmetered(), self.limits, self._explain)

    def _key(self, request: web.BaseRequest) -> tuple[str, ...]:
        """The headers with the client's key; the server refuses more than one as well."""
        if sum(len(request.headers.getall(name, ())) for name in KEYS) > 1:
            raise Denied(400, "more than one key: Authorization or X-Api-Key, once")
        return KEYS

    @contextlib.contextmanager
    def _place(self, connection: Connection) -> Iterator[None]:
        if len(self.running) >= self.limits.requests:
            raise Busy(503, f"{self.limits.requests} requests are in flight; try again")
        self.running.add(connection)
        try:
            yield
        finally:
            self.running.discard(connection)

    def _pool(self) -> Pool:
        return Pool(self._dial, self.place.authority, KEEP_SECONDS)

    async def _dial(self) -> Upstream:
        """A connection with the verified key; nothing is sent before that is known."""
        try:
            made, key = await dial(self.place, self.limits.buffered)
        except NotVerified as error:  # its certificate is not of the CA
            self.keeper.stop(error.message)
            raise Withheld(self._withheld(error)) from error
        except Unreachable as error:
            raise Withheld(error.message) from error
        try:
            self.keeper.matches(key)
        except NotVerified as error:
            made.drop()
            raise Withheld(self._withheld(error)) from error
        return made

    def _require(self) -> None:
        try:
            self.keeper.require()
        except NotVerified as error:
            raise Denied(502, self._withheld(error)) from None

    def _withheld(self, error: NotVerified) -> str:
        return f"vmtool connect forwards nothing to {self.place}: {error.message}"

    def _explain(self, error: Exception) -> Denied:
        if isinstance(error, TimeoutError):
            return Denied(504, f"no answer within {self.limits.engine_seconds:.0f} s")
        if isinstance(error, Withheld):
            return Denied(502, str(error), {"Retry-After": "1"})
        return Denied(502, f"{self.place} broke off", {"Retry-After": "1"})


def check_local(request: web.BaseRequest) -> None:
    """A page in a browser may ask loopback, under the name of a host of its own (DNS rebinding) or across origins.

    Raises:
        Denied: it is such a request.
    """
    names = [f"//{value}" for value in request.headers.getall("Host", ())] + request.headers.getall("Origin", [])
    for name in names:
        try:
            host = urlsplit(name).hostname or ""
        except ValueError:
            host = ""
        if not is_loopback(host):
            raise Denied(403, "asked by another name than this machine's own: use http://127.0.0.1")
