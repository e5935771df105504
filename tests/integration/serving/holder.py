"""What one key can do to the others: it asks in one of these ways, as much as it may, until it is told to end.

    python -m tests.integration.serving.holder PORT KIND

It has the lowest priority, as `attack` has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable

from tests.integration.serving.floods import KEYED, enough_descriptors
from tests.integration.serving.processes import BEARER, chat

# As many connections as one key may have requests in flight, and some more.
CONNECTIONS = 260
GET = f"GET /none HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n".encode()
TINY = b"".join(b"a%d:b\r\n" % number for number in range(100))
Ask = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def take(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(1 << 20):
            pass


async def one_by_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(GET)
        await reader.readuntil(b"}}")


async def pipelined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    taking = asyncio.create_task(take(reader))
    while not taking.done():
        writer.write(GET * 100)
        await writer.drain()


async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(chat(stream=100_000, gap=0.01))
    await take(reader)


async def wide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(chat(wide=8_000_000))
    await take(reader)


async def bodies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Of two requests of 16 MiB at most there is room for the body at once."""
    taking = asyncio.create_task(take(reader))
    writer.write(KEYED.replace(b"/tokenize", b"/v1/embeddings") + b"Content-Length: 16777216\r\n\r\n")
    for _ in range(256):
        writer.write(b"x" * (64 << 10))
        await writer.drain()
    await taking


async def slow_readers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(chat(stream=100_000, pad=5000))
    while await reader.read(1 << 10):
        await asyncio.sleep(0.02)


async def comes_and_goes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hundreds of streams that end in the same moment."""
    writer.write(chat(stream=100_000, gap=1))
    await asyncio.sleep(1 - asyncio.get_running_loop().time() % 1)


async def chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    taking = asyncio.create_task(take(reader))
    writer.write(KEYED + b"Transfer-Encoding: chunked\r\n\r\n")
    while not taking.done():
        writer.write(b"8\r\nxxxxxxxx\r\n" * 1000)
        await writer.drain()


async def heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(GET[:-2] + TINY + b"\r\n")
        await reader.readuntil(b"}")


KINDS: dict[str, Ask] = {ask.__name__.replace("_", "-"): ask for ask in (
    one_by_one, pipelined, streams, wide, bodies, slow_readers, comes_and_goes, chunks, heads)}


async def holding(port: int, ask: Ask) -> None:
    while True:
        writer = None
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await ask(reader, writer)
        if writer:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def main(port: int, ask: Ask) -> None:
    holders = [asyncio.create_task(holding(port, ask)) for _ in range(CONNECTIONS)]
    await asyncio.sleep(1)
    print("holding", flush=True)
    await asyncio.gather(*holders)


if __name__ == "__main__":
    enough_descriptors()
    os.nice(19)
    asyncio.run(main(int(sys.argv[1]), KINDS[sys.argv[2]]))
