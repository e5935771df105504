"""Evidence for whoever asks, without a key: within bounds, and never on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from aiohttp import web

from vmtool.serving.evidence.collect import collect, document
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import NotCollected
from vmtool.serving.evidence.nvml import Devices, collect_devices
from vmtool.serving.front.clients import Budget, Budgets
from vmtool.serving.front.denied import Busy, Denied, answer
from vmtool.serving.front.limits import Limits

QUERY = re.compile(r"nonce=([0-9a-f]{64})", re.ASCII)


class GuestEvidence:
    """Asks the guest, one request after the other.

    Args:
        ask, ask_devices: give evidence over 32 bytes; may take long, and need not come to their end.
    """

    def __init__(self, limits: Limits, ask: Callable[[bytes], Collected | None] = collect,
                 clock: Callable[[], float] = time.monotonic,
                 ask_devices: Callable[[bytes], Devices] = collect_devices) -> None:
        self.limits, self.ask, self.ask_devices = limits, ask, ask_devices
        self.all = Budget(limits.evidence, clock)
        self.addresses, self.clients = (Budgets(limits.evidence_per_address, clock) for _ in range(2))
        self.turn, self.waiting = asyncio.Lock(), 0
        self.done = threading.Event()
        self.done.set()

    async def respond(self, query: str, address: str, key: bytes, client: str = "") -> web.Response:
        """The answer to one request.

        Args:
            query: of the request's target.
            key: the digest of the TLS key that the peer has seen.
            client: name of the API key that it shows; empty without one, which will do.

        Raises:
            Denied: it is no such request, too many come, or the device gives nothing.
        """
        asked = QUERY.fullmatch(query)
        if not asked:
            raise Denied(400, "ask with ?nonce= and 64 hexadecimal digits in lower case, new ones each time")
        self._admit(address, client)
        self.waiting += 1
        try:
            async with asyncio.timeout(self.limits.evidence_seconds), self.turn:
                return answer(200, await self._collected(bytes.fromhex(asked[1]), key), {"Cache-Control": "no-store"})
        except TimeoutError:
            raise Busy(503, "the device that makes evidence does not answer") from None
        except NotCollected as error:
            raise Denied(503, f"no evidence: {error.args[0]}", {"Retry-After": "10"}) from None
        finally:
            self.waiting -= 1

    def _admit(self, address: str, client: str) -> None:
        """Within the budgets; who has used up his own takes nothing of the others'. Those with a key have theirs apart:
        whoever has none cannot keep the host from asking."""
        budgets = (self.clients.of(client),) if client else (self.addresses.of(address), self.all)
        for budget in budgets:
            if wait := budget.wait():
                raise Denied(429, "evidence is asked for too often", {"Retry-After": str(math.ceil(wait))})
        if self.waiting >= self.limits.evidence_waiting and not client:
            raise Busy(503, "others wait for evidence; try again")
        for budget in budgets:
            budget.take(1)

    async def _collected(self, nonce: bytes, key: bytes) -> Mapping[str, object]:
        """In a thread that nobody waits for at the end: a device can hang."""
        if not self.done.is_set():
            raise NotCollected("the device that makes evidence still does not answer")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Mapping[str, object]] = loop.create_future()

        def give(outcome: Callable[[], None]) -> None:
            if not result.done():  # else nobody waits any more
                outcome()

        def run() -> None:
            try:
                made = document(nonce, key, self.ask, self.ask_devices)
                outcome = partial(result.set_result, made)
            except Exception as error:
                outcome = partial(result.set_exception, error)
            self.done.set()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(give, outcome)

        thread = threading.Thread(target=run, name="evidence", daemon=True)
        self.done.clear()
        try:
            thread.start()
        except RuntimeError as error:
            self.done.set()
            raise NotCollected("no thread can be started") from error
        return await result
