"""The shortest reverse proxy that aiohttp gives, to compare the front with: no key, no bound, no deadline.

    python -m tests.integration.serving.plain_proxy SOCKET PORT
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from tests.integration.serving.floods import enough_descriptors

SESSION = web.AppKey("session", aiohttp.ClientSession)


async def client(application: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.UnixConnector(sys.argv[1], limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as application[SESSION]:
        yield


async def handle(request: web.Request) -> web.StreamResponse:
    session, body = request.app[SESSION], await request.read()
    headers = {"Content-Type": request.headers.get("Content-Type", "")}
    async with session.request(request.method, f"http://vllm{request.path_qs}", data=body, headers=headers) as reply:
        kept = {name: value for name, value in reply.headers.items() if name != "Transfer-Encoding"}
        response = web.StreamResponse(status=reply.status, headers=kept)
        await response.prepare(request)
        async for chunk in reply.content.iter_any():
            await response.write(chunk)
        return response


if __name__ == "__main__":
    enough_descriptors()
    application = web.Application()
    application.cleanup_ctx.append(client)
    application.router.add_route("*", "/{path:.*}", handle)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
