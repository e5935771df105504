"""The front's way to vLLM: connections over its Unix socket that are kept for the next request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from vmtool.serving.front.rooms import RequestBody
from vmtool.serving.front.upstream import Upstream

HEALTH_SECONDS = 5.0
# Everybody may ask for the health; the engine is asked this often at most.
HEALTH_AGE = 0.2
# vLLM ends an idle connection after 5 s; a request must not meet that end.
KEEP_SECONDS = 2.0
MAX_LIST = 1 << 20
PIECE = 64 << 10


class NotUp(ConnectionError):
    """Nobody listens on the engine's socket."""


class Engine:
    """vLLM, or the small server in its place.

    Args:
        socket: where it listens, now or later.
        buffered: bytes of an answer that are read ahead.

    Attributes:
        phase: what it is while it does not answer: "starting", "restarting", or "not answering" though it lives.
        expected: when a restarting one may answer again, in monotonic seconds.
        answered: when this one first answered, whoever asked; None when it has not yet.
    """

    def __init__(self, socket: Path, buffered: int) -> None:
        self.socket, self.buffered = str(socket), buffered
        # With the moment from which each was idle; the newest is taken first.
        self.idle: list[tuple[float, Upstream]] = []
        self.checked = -HEALTH_AGE
        self.healthy = False
        self.checking: asyncio.Task[bool] | None = None
        self.phase, self.restarts = "starting", 0
        self.expected = 0.0
        self.answered: float | None = None

    def close(self) -> None:
        for _, connection in self.idle:
            connection.drop()

    @contextlib.asynccontextmanager
    async def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None,
                  body: RequestBody | None = None) -> AsyncIterator[Upstream]:
        """One request: the answer as soon as its headers are there. It is ended when it is not taken to its end.

        Raises:
            NotUp: nobody listens. ConnectionError: it broke off.
        """
        connection = await self._connection()
        try:
            head, pieces = _request(method, target, headers or {}, body)
            await connection.send(head, pieces)
            yield connection
        finally:
            if connection.whole and connection.keeps and connection.open:
                self.idle.append((time.monotonic(), connection))
            else:
                connection.drop()

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

    async def _connection(self) -> Upstream:
        fresh = time.monotonic() - KEEP_SECONDS
        while self.idle:
            since, kept = self.idle.pop()
            if kept.open and since > fresh:
                kept.begin()
                return kept
            kept.drop()
        try:
            _, made = await asyncio.get_running_loop().create_unix_connection(
                lambda: Upstream(self.buffered), self.socket)
        except OSError as error:
            raise NotUp(str(error)) from error
        return made

    async def _check(self) -> bool:
        try:
            async with asyncio.timeout(HEALTH_SECONDS), self.ask("GET", "/health") as answer:
                self.healthy = answer.status == 200
        except (OSError, TimeoutError):
            self.healthy = False
        self.checked, self.checking = time.monotonic(), None
        if self.healthy and self.answered is None:
            self.answered = self.checked
        return self.healthy


def _request(method: str, target: str, headers: Mapping[str, str],
             body: RequestBody | None) -> tuple[bytes, Iterable[bytes]]:
    """The bytes of a request: what comes at once, and what comes bit by bit."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    size = len(body.data) if body else 0
    length = f"Content-Length: {size}\r\n" if size else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: vllm\r\n{lines}{length}\r\n".encode("ascii")
    if body is None or size <= PIECE:
        return head + (bytes(body.data) if body else b""), ()
    # In one piece the transport would copy what the socket does not take at once.
    return head, body.pieces(PIECE)
