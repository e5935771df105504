"""Holds idle connections and sends headers without end, until it is told to end; what is closed is opened again.

    python -m tests.integration.serving.attack PORT IDLE ENDLESS

It has the lowest priority: a real attacker uses no processor of the host's. At the end it says how many connections it
has opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys

from tests.integration.serving.floods import enough_descriptors

OPENED = itertools.count()


async def idle(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            next(OPENED)
            await reader.read()
            writer.close()
        await asyncio.sleep(1)


async def endless(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            next(OPENED)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            while not writer.is_closing():
                writer.write(b"X-A: " + b"a" * 1000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)


async def main(port: int, idlers: int, floods: int) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
    print("attacking", flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*(idle(port) for _ in range(idlers)), *(endless(port) for _ in range(floods)))
    print(next(OPENED), flush=True)


if __name__ == "__main__":
    enough_descriptors()
    os.nice(19)
    asyncio.run(main(*map(int, sys.argv[1:])))
