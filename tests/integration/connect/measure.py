"""What `vmtool connect` costs: the first token, the tokens of streams as models make them, whole answers a second.

All are differences or ratios against the same front asked directly over TLS, taken in turns in one run.
"""

from __future__ import annotations

import asyncio
import ssl
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from tests.integration.connect.running import SNP, attested, connected, named
from tests.integration.serving.measure import throughput
from tests.integration.serving.processes import Serving

ROUNDS, REQUESTS = 5, 100
STREAMS, TOKENS, GAP = 16, 100, 0.02


def first_token(one: Serving, request: bytes) -> float:
    """Median seconds from a request to its stream's first event, on one connection."""
    taken = []
    with one.connect() as connection:
        for _ in range(REQUESTS):
            began, data = time.perf_counter(), b""
            connection.sendall(request)
            while b'"number"' not in data:
                data += connection.recv(1 << 16)
            taken.append(time.perf_counter() - began)
            while b"0\r\n\r\n" not in data[-16:]:
                data += connection.recv(1 << 16)
    return statistics.median(taken)


def tokens_a_second(port: int, request: bytes, secure: ssl.SSLContext | None) -> float:
    """Of several streams at once, each as long and as fast as a model makes it."""
    async def stream() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=secure,
                                                       server_hostname="localhost" if secure else None)
        writer.write(request)
        await reader.readuntil(b"[DONE]")
        writer.close()

    async def run() -> None:
        await asyncio.gather(*(stream() for _ in range(STREAMS)))

    began = time.perf_counter()
    asyncio.run(run())
    return STREAMS * TOKENS / (time.perf_counter() - began)


def measure(directory: Path) -> Iterator[str]:
    """All of it, a line each."""
    with attested(directory) as front, connected(directory, f"https://127.0.0.1:{front.port}", SNP) as local:
        ways = (("direct", front), ("connect", local.serving))
        short, paced, whole = (named(front.chat(**asked)) for asked in (
            {"stream": 2}, {"stream": TOKENS, "gap": GAP}, {}))
        first: dict[str, list[float]] = {name: [] for name, _ in ways}
        tokens: dict[str, list[float]] = {name: [] for name, _ in ways}
        answers: dict[str, list[float]] = {name: [] for name, _ in ways}
        for _ in range(ROUNDS):
            for name, one in ways:
                first[name].append(1000 * first_token(one, short))
                tokens[name].append(tokens_a_second(one.port, paced, one.secure))
                answers[name].append(throughput(one.port, whole, one.secure)[0])
    direct, through = (statistics.median(first[name]) for name, _ in ways)
    yield f"first token: direct {direct:.2f} ms, through connect {through:.2f} ({through - direct:+.2f} ms, wanted +3)"
    for title, values, wanted in ((f"tokens a second, {STREAMS} streams of {1 / GAP:.0f} a second", tokens, "-2 %"),
                                  ("whole answers a second, of an engine that takes no time", answers, "not bounded")):
        direct, through = (statistics.median(values[name]) for name, _ in ways)
        yield (f"{title}: direct {direct:.0f}, through connect {through:.0f} ({100 * (through / direct - 1):+.1f} %, "
               f"wanted {wanted})")
