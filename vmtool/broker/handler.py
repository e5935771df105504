"""The broker over HTTP: who asks, how often, for which of the three calls, and how it is answered.

    POST /kbs/v0/auth                          a session and its challenge
    POST /kbs/v0/attest                        evidence for it
    GET  /kbs/v0/resource/REPOSITORY/TYPE/TAG  a resource, encrypted
    GET  /healthz                              200, for anybody
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

from aiohttp import web

from vmtool.broker.decide import Decisions
from vmtool.broker.rates import Rates
from vmtool.broker.refusals import KbsRefusal, no_session
from vmtool.broker.sessions import Session
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import Denied, answer
from vmtool.serving.front.form import check_form
from vmtool.serving.front.limits import Limits
from vmtool.serving.front.rooms import Bodies
from vmtool.serving.kbs.exchange import COOKIE, PREFIX
from vmtool.serving.kbs.resource_name import RESOURCE

T = TypeVar("T")
# Peers have no key to show: each must send its whole request within the time of one connection.
LIMITS = Limits(connections=256, keyless_per_address=32, keyless_seconds=30.0, body=2 << 20, bodies=16 << 20,
                requests=64, body_seconds=20.0)
# Evidence that is verified at once, and that may wait for it.
JUDGES, WAITING = 4, 32
_SESSION = re.compile(rf"(?:^|;)\s*{COOKIE}=([0-9a-f]{{32}})\s*(?=;|$)")
_PLUGIN = re.compile(rf"{PREFIX}/[a-z0-9-]+/.*", re.DOTALL)


class BrokerHandler:
    """Answers guests.

    Args:
        say: receives a line when something is wrong with the broker itself.
    """

    def __init__(self, decisions: Decisions, rates: Rates, say: Callable[[str], None]) -> None:
        self.decisions, self.rates, self.say = decisions, rates, say
        self.bodies, self.judges, self.waiting = Bodies(LIMITS), asyncio.Semaphore(JUDGES), 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        connection = cast(Connection, request.protocol)
        with connection.answering(request):
            try:
                await request.writer.drain()
                return connection.one_by_one(await self._answered(request, connection.address))
            except Denied as denied:
                response = self._refused(KbsRefusal("SerdeError", denied.message, status=denied.status))
                response.force_close()
                return response

    async def _answered(self, request: web.BaseRequest, address: str) -> web.Response:
        check_form(request)
        path, step = request.raw_path, "path"
        if (request.method, path) == ("GET", "/healthz"):
            return answer(200, {"status": "ok"})
        session: Session | None = None
        try:
            self._check_rate(address)
            if (request.method, path) == ("POST", f"{PREFIX}/auth"):
                step = "auth"
                session, introduced = self.decisions.challenge(address, await self._body(request))
                more = await self._judged(partial(self.decisions.introduce, session, introduced)) if introduced else {}
                return self._challenged(session, more)
            if (request.method, path) == ("POST", f"{PREFIX}/attest"):
                step, session = "attest", self._session(request, self.decisions.sessions.answer)
                return await self._attested(session, await self._body(request))
            name = path.removeprefix(f"{PREFIX}/resource/")
            if request.method == "GET" and name != path and RESOURCE.fullmatch(name):
                step, session = "resource", self._session(request, self.decisions.sessions.use)
                return answer(200, await self._judged(partial(self.decisions.resource, session, name)))
            raise KbsRefusal("PluginNotFound" if _PLUGIN.fullmatch(path) and name == path else "InvalidRequestPath",
                             "Invalid request path")
        except KbsRefusal as refusal:
            await self._note(step, address, session, refusal)
            return self._refused(refusal)

    async def _attested(self, session: Session, body: bytes) -> web.Response:
        token = await self._judged(partial(self.decisions.attest, session, body))
        return answer(200, {"token": token}, {"Set-Cookie": f"{COOKIE}={session.name}"})

    def _check_rate(self, address: str) -> None:
        if not self.rates.take(address):
            raise KbsRefusal("RateLimited", "too many requests from this address")

    async def _body(self, request: web.BaseRequest) -> bytes:
        with self.bodies.body() as body:
            await body.read(request)
            return bytes(body.data)

    def _session(self, request: web.BaseRequest, find: Callable[[str], Session | None]) -> Session:
        names = _SESSION.findall("; ".join(request.headers.getall("Cookie", [])))
        found = find(names[0]) if len(names) == 1 else None
        if found is None:
            raise no_session()
        return found

    async def _judged(self, decide: Callable[[], T]) -> T:
        """In a thread, since verifying evidence and waiting for the disk take their time."""
        if self.waiting >= WAITING:
            raise KbsRefusal("RateLimited", "too much evidence at once", status=503)
        self.waiting += 1
        try:
            async with self.judges:
                return await asyncio.to_thread(decide)
        except RecursionError:
            raise KbsRefusal("SerdeError", "serde error: nested too deeply") from None
        except OSError as error:
            self.say(f"{error.filename or 'the audit file'}: {error.strerror}: nothing is released")
            raise KbsRefusal("PluginInternalError", "Plugin internal error", "the audit file") from None
        finally:
            self.waiting -= 1

    async def _note(self, step: str, address: str, session: Session | None, refusal: KbsRefusal) -> None:
        """Audit a refusal; a flood fills no disk."""
        if refusal.kind == "RateLimited" and not self.rates.is_news(address):
            return
        more: dict[str, Any] = {"tee": session.tee} if session else {}
        try:
            await asyncio.to_thread(self.decisions.audit.note, step, "refused", session.name if session else "",
                                    address=address, error=refusal.kind, why=refusal.why, **more)
        except OSError as error:
            self.say(f"{error.filename or 'the audit file'}: {error.strerror}")

    def _challenged(self, session: Session, more: dict[str, str]) -> web.Response:
        ends = datetime.now(UTC) + timedelta(seconds=self.decisions.sessions.seconds)
        return answer(200, {"nonce": session.nonce, "extra-params": more or ""}, {
            "Set-Cookie": f"{COOKIE}={session.name}; Expires={ends:%a, %d %b %Y %H:%M:%S} GMT"})

    def _refused(self, refusal: KbsRefusal) -> web.Response:
        return answer(refusal.status, refusal.values())
