"""The front's way to vLLM: connections over its Unix socket that are kept for the next request."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

from vmtool.serving.front.denied import Denied
from vmtool.serving.front.pool import NotUp, Pool
from vmtool.serving.front.upstream import Upstream

HEALTH_SECONDS = 5.0
# Everybody may ask for the health; the engine is asked this often at most.
HEALTH_AGE = 0.2
# vLLM ends an idle connection after 5 s; a request must not meet that end.
KEEP_SECONDS = 2.0
MAX_LIST = 1 << 20


class Engine(Pool):
    """vLLM, or the small server in its place.

    Args:
        socket: where it listens, now or later.
        buffered: bytes of an answer that are read ahead.

    Attributes:
        phase: what it is while it does not answer: "starting", "restarting", or "not answering" though it lives.
        expected: when a restarting one may answer again, in monotonic seconds.
        answered: when this one first answered, whoever asked; None when it has not yet.
        broken: it said of itself, when it was asked last, that it cannot serve any more.
    """

    def __init__(self, socket: Path, buffered: int) -> None:
        super().__init__(self._dial, "vllm", KEEP_SECONDS)
        self.socket, self.buffered = str(socket), buffered
        self.checked = -HEALTH_AGE
        self.healthy, self.broken = False, False
        self.checking: asyncio.Task[bool] | None = None
        self.phase, self.restarts = "starting", 0
        self.expected = 0.0
        self.answered: float | None = None

    async def up(self) -> bool:
        """Whether it answers its own /health, as of a moment ago."""
        if time.monotonic() - self.checked < HEALTH_AGE:
            return self.healthy
        if self.checking is None:
            self.checking = asyncio.create_task(self._check())
        return await asyncio.shield(self.checking)

    def restarting(self, seconds: float) -> None:
        """It has died, and is expected to answer again after that long."""
        self.phase, self.healthy, self.answered = "restarting", False, None
        self.restarts += 1
        self.expected = time.monotonic() + seconds

    def retry_after(self) -> str:
        """Seconds after which to ask again: what OpenAI's clients take from the header of that name, up to a minute."""
        return str(min(60, max(1, math.ceil(self.expected - time.monotonic()))))

    def explain(self, error: Exception, seconds: float) -> Denied:
        """The refusal for a client that gets no answer, which was waited for that long."""
        if isinstance(error, TimeoutError):
            return Denied(504, f"no answer within {seconds:.0f} s")
        if isinstance(error, NotUp):
            return Denied(503, f"the server is {self.phase}: see /health", {"Retry-After": self.retry_after()})
        return Denied(502, "the server broke off", {"Retry-After": "1"})

    async def models(self) -> list[dict[str, Any]]:
        """What it says that it serves.

        Raises:
            ValueError: the answer is not such a list.
        """
        text = bytearray()
        async with self.ask("GET", "/v1/models") as answer:
            while len(text) < MAX_LIST and (piece := await answer.read()):
                text += piece
        document = json.loads(text)
        entries = document.get("data") if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("the engine's list of models is no list")
        return entries

    async def _dial(self) -> Upstream:
        try:
            _, made = await asyncio.get_running_loop().create_unix_connection(
                lambda: Upstream(self.buffered), self.socket)
        except OSError as error:
            raise NotUp(str(error)) from error
        return made

    async def _check(self) -> bool:
        try:
            async with asyncio.timeout(HEALTH_SECONDS), self.ask("GET", "/health") as answer:
                self.healthy, self.broken = answer.status == 200, answer.status == 503
        except (OSError, TimeoutError):
            self.healthy, self.broken = False, False
        self.checked, self.checking = time.monotonic(), None
        if self.healthy and self.answered is None:
            self.answered = self.checked
        return self.healthy
