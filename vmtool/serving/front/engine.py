"""The front's way to vLLM: HTTP over a Unix socket, with connections that are kept for the next request."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from vmtool.serving.front.rooms import RequestBody

HEALTH_SECONDS = 5.0
# Everybody may ask for the health; the engine is asked this often at most.
HEALTH_AGE = 0.2
# vLLM ends an idle connection after 5 s; a request must not meet that end.
KEEP_SECONDS = 2.0
MAX_LIST = 1 << 20
PIECE = 64 << 10
# What aiohttp's client would add by itself.
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Engine:
    """vLLM, or the small server in its place.

    Args:
        socket: where it listens, now or later.
        buffered: bytes of an answer that are read ahead; aiohttp takes twice as much as it is given.
    """

    def __init__(self, socket: Path, buffered: int) -> None:
        connector = aiohttp.UnixConnector(str(socket), limit=0, keepalive_timeout=KEEP_SECONDS)
        self.session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(), cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False, skip_auto_headers=NOT_ADDED, read_bufsize=buffered // 2)
        self.checked = -HEALTH_AGE
        self.healthy = False
        self.checking: asyncio.Task[bool] | None = None

    async def close(self) -> None:
        await self.session.close()

    def ask(self, method: str, target: str, headers: Mapping[str, str] | None = None,
            body: RequestBody | None = None) -> Any:
        """One request; what is returned is entered with `async with`, and gives the answer as it comes."""
        url = _url(target)
        size = len(body.data) if body else 0
        if body is None or not size:
            return self.session.request(method, url, headers=headers, allow_redirects=False)
        # In one piece the transport would copy what the socket does not take at once.
        data = bytes(body.data) if size <= PIECE else body.pieces(PIECE)
        headers = {**(headers or {}), "Content-Length": str(size)}
        return self.session.request(method, url, headers=headers, data=data, allow_redirects=False)

    async def up(self) -> bool:
        """Whether it answers its own /health, as of a moment ago."""
        if time.monotonic() - self.checked < HEALTH_AGE:
            return self.healthy
        if self.checking is None:
            self.checking = asyncio.create_task(self._check())
        return await asyncio.shield(self.checking)

    async def models(self) -> list[dict[str, Any]]:
        """What it says that it serves.

        Raises:
            ValueError: the answer is not such a list.
        """
        async with self.ask("GET", "/v1/models") as answer:
            document = json.loads(await answer.content.read(MAX_LIST))
        entries = document.get("data") if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("the engine's list of models is no list")
        return entries

    async def _check(self) -> bool:
        try:
            async with asyncio.timeout(HEALTH_SECONDS), self.ask("GET", "/health") as answer:
                self.healthy = answer.status == 200
        except (OSError, TimeoutError, aiohttp.ClientError):
            self.healthy = False
        self.checked, self.checking = time.monotonic(), None
        return self.healthy


@functools.lru_cache(64)
def _url(target: str) -> URL:
    """Kept, since aiohttp asks each one for its parts."""
    return URL(f"http://vllm{target}", encoded=True)
