"""Holds idle connections and sends headers without end, until killed; what is closed is opened anew.

    python -m tests.integration.serving.attack PORT IDLE ENDLESS
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys


async def idle(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.read()
            writer.close()
        await asyncio.sleep(1)


async def endless(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            while not writer.is_closing():
                writer.write(b"X-A: " + b"a" * 1000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)


async def main(port: int, idlers: int, floods: int) -> None:
    print("attacking", flush=True)
    await asyncio.gather(*(idle(port) for _ in range(idlers)), *(endless(port) for _ in range(floods)))


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    asyncio.run(main(*map(int, sys.argv[1:])))
