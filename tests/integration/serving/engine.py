"""A stand-in for vLLM on a Unix socket; what a request's JSON asks for, it does.

    python -m tests.integration.serving.engine SOCKET LOG

LOG gets a line when a request begins, ends, or is given up.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

REPLY = json.dumps({"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 40}}]})
METRICS = b'''# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="canary"} 0.25
'''
MODELS = {"object": "list", "data": [{"id": "canary", "object": "model"}, {"id": "org/model", "object": "model"}]}


class Standin:
    """The engine."""

    def __init__(self, log: Path) -> None:
        self.log = log.open("a", buffering=1)

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        """Some of vLLM's own; or whatever is in the file beside the log."""
        given = Path(f"{self.log.name}.metrics")
        return web.Response(body=given.read_bytes() if given.exists() else METRICS)

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response(MODELS)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """`hang` before the answer, `stream` so many chunks of `pad` bytes, `gap` seconds between them, `fall` silent
        or `break` off after them; `wide` bytes at once, `short` of what was announced, or just what `says`."""
        self.log.write("begun\n")
        try:
            answer = await self._chat(request, json.loads(await request.read() or "{}"))
        except (asyncio.CancelledError, ConnectionError):
            self.log.write("given up\n")
            raise
        self.log.write("done\n")
        return answer

    async def _chat(self, request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        if asked.get("hang"):
            await asyncio.sleep(asked["hang"])
        if "says" in asked:
            return web.Response(text=str(asked["says"]), content_type="application/json")
        if "wide" in asked:
            return web.Response(body=b"w" * int(asked["wide"]))
        if "short" in asked and request.transport:
            request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            request.transport.close()
        if "stream" not in asked:
            return web.Response(text=REPLY, content_type="application/json")
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        pad = "x" * int(asked.get("pad", 100))
        for number in range(int(asked["stream"])):
            await stream.write(f"data: {json.dumps({'number': number, 'pad': pad})}\n\n".encode())
            if "gap" in asked:
                await asyncio.sleep(asked["gap"])
        if asked.get("break") and request.transport:
            request.transport.abort()
        if asked.get("fall"):
            await asyncio.sleep(3600)
        await stream.write(b"data: [DONE]\n\n")
        return stream

    async def echo(self, request: web.Request) -> web.Response:
        """What came, as it came."""
        body = await request.read()
        return web.json_response({
            "method": request.method, "target": request.raw_path, "headers": [*request.headers.items()],
            "length": len(body), "sha256": hashlib.sha256(body).hexdigest()})


def main(socket: str, log: str) -> None:
    """Serve until killed."""
    standin = Standin(Path(log))
    application = web.Application(client_max_size=1 << 30)
    application.router.add_get("/health", standin.health)
    application.router.add_get("/v1/models", standin.models)
    application.router.add_get("/metrics", standin.metrics)
    application.router.add_post("/v1/chat/completions", standin.chat)
    application.router.add_route("*", "/{path:.*}", standin.echo)
    web.run_app(application, path=socket, print=None, access_log=None, handler_cancellation=True, backlog=2048)


if __name__ == "__main__":
    main(*sys.argv[1:])
