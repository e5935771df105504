"""What the front costs: latency, requests a second, CPU, gaps of a stream, and what an attack changes for others.

All are ratios or differences against the engine itself, or against aiohttp's plain proxy, taken in turns in one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.integration.serving.certificates import issue, lines, trusting
from tests.integration.serving.measure_attacked import (
    Connect,
    cpu,
    latencies,
    measure_attacked,
    measure_holders,
    measure_turns,
    p99,
)
from tests.integration.serving.processes import Serving, reserved_port, serving, until
from tests.integration.serving.run_front import KEY
from vmtool.serving.access_list import digest_of

ROUNDS, SECONDS, CLIENTS = 5, 1.5, 16
CHUNKS, GAP = 40, 0.02
HANDSHAKES = 40
TOKEN = b"t" * 32


@contextlib.contextmanager
def plain_proxy(one: Serving) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The proxy before the same engine: its port and its process."""
    held = reserved_port()
    port = held.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", f"{__package__}.plain_proxy", str(one.directory / "engine.sock"),
                           str(port)], stderr=subprocess.DEVNULL) as process:
        def there() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        try:
            until(there, "the proxy does not listen")
            yield port, process
        finally:
            process.kill()
            held.close()


class Client(asyncio.Protocol):
    """Sends the next request when an answer is there."""

    def __init__(self, request: bytes) -> None:
        self.request, self.count, self.left, self.data = request, 0, -1, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
            self.count, self.data = self.count + 1, b""
            self.transport.write(self.request)


def throughput(port: int, request: bytes, secure: ssl.SSLContext | None = None, pid: int | None = None,
               ) -> tuple[float, float]:
    """Requests a second on several connections, and the CPU that each took of a process; handshakes are not in it."""
    async def run() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        clients = [Client(request) for _ in range(CLIENTS)]
        for client in clients:
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port,
                                         ssl=secure, server_hostname="localhost" if secure else None)
        before, began, used = sum(client.count for client in clients), time.perf_counter(), cpu(pid) if pid else 0.0
        await asyncio.sleep(SECONDS)
        count = sum(client.count for client in clients) - before
        return count / (time.perf_counter() - began), ((cpu(pid) if pid else 0.0) - used) / count

    return asyncio.run(run())


def handshake(one: Serving) -> float:
    """Seconds of CPU that a connection with one request for the health takes of the front."""
    before = cpu(one.front.pid)
    for _ in range(HANDSHAKES):
        one.ask("GET", "/health", "")
    return (cpu(one.front.pid) - before) / HANDSHAKES


def gaps(connect: Connect, request: bytes) -> list[float]:
    """Seconds between the chunks of a stream."""
    arrivals = []
    with connect() as connection:
        connection.sendall(request)
        data = b""
        while b"[DONE]" not in data:
            data = connection.recv(1 << 16)
            if b'"number"' in data:
                arrivals.append(time.perf_counter())
    return [later - earlier for earlier, later in itertools.pairwise(arrivals)]


def measure(directory: Path) -> Iterator[str]:
    """All of it, a line each."""
    with serving(directory) as one, plain_proxy(one) as (port, proxy):
        request = one.chat()

        def engine() -> socket.socket:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(directory / "engine.sock"))
            return connection

        def proxied() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port))

        yield from _costs(one, engine, proxied, request)
        yield from _rates(one, port, proxy, request)
        stream = one.chat(stream=CHUNKS, gap=GAP)
        own, front = [*gaps(engine, stream), *gaps(engine, stream)], [*gaps(one.connect, stream),
                                                                     *gaps(one.connect, stream)]
        yield (f"gaps of a stream: engine p50 {1000 * statistics.median(own):.2f} ms p99 {1000 * p99(own):.2f}, "
               f"through the front p50 {1000 * statistics.median(front):.2f} p99 {1000 * p99(front):.2f} "
               f"({1000 * (statistics.median(front) - statistics.median(own)):+.2f} ms, wanted 1 ms)")
        yield from _secured(one, request)
        yield from measure_attacked(one, engine, proxied, port, request)
    yield from measure_turns(directory / "turns")
    yield from measure_holders(directory / "holders")


def _costs(one: Serving, engine: Connect, proxied: Connect, request: bytes) -> Iterator[str]:
    medians: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, connect in (("engine", engine), ("front", one.connect), ("proxy", proxied)):
            medians.setdefault(name, []).append(statistics.median(latencies(connect, request)))
    direct, front, proxy = (1000 * statistics.median(medians[name]) for name in ("engine", "front", "proxy"))
    yield (f"latency p50, one connection: engine {direct:.2f} ms, front {front:.2f} ({front - direct:+.2f} ms, wanted "
           f"+0.5), plain proxy {proxy:.2f} ({proxy - direct:+.2f})")


def _rates(one: Serving, port: int, proxy: subprocess.Popen[bytes], request: bytes) -> Iterator[str]:
    rates: dict[int, list[float]] = {one.port: [], port: []}
    costs: dict[int, list[float]] = {one.port: [], port: []}
    for _ in range(ROUNDS):
        for at, pid in ((one.port, one.front.pid), (port, proxy.pid)):
            rate, cost = throughput(at, request, pid=pid)
            rates[at].append(rate)
            costs[at].append(cost)
    front, plain = statistics.median(rates[one.port]), statistics.median(rates[port])
    yield (f"requests a second, {CLIENTS} connections: front {front:.0f}, plain proxy {plain:.0f} "
           f"({front / plain:.2f}x, wanted 0.75x)")
    yield (f"CPU of a request: front {1000 * statistics.median(costs[one.port]):.2f} ms (wanted 0.5), "
           f"plain proxy {1000 * statistics.median(costs[port]):.2f}")


def _secured(one: Serving, request: bytes) -> Iterator[str]:
    """TLS and a token with limits, which are never reached, against plain HTTP and the key."""
    directory = one.directory / "secured"
    directory.mkdir()
    token = f"token bench sha256:{digest_of(TOKEN).hex()} requests=99999999 tokens=99999999\n"
    (directory / "list").write_text(lines(issue(directory / "ca")) + token)
    with serving(directory, more=directory / "list", secure=trusting(directory / "ca")) as other:
        costs: dict[str, list[float]] = {"plain": [], "secured": []}
        shakes: dict[str, list[float]] = {"plain": [], "secured": []}
        limited = request.replace(KEY.encode(), TOKEN)
        for _ in range(ROUNDS):
            for name, front, asked in (("plain", one, request), ("secured", other, limited)):
                costs[name].append(throughput(front.port, asked, front.secure, front.front.pid)[1])
                shakes[name].append(handshake(front))
    plain, secured, bare, shaken = (
        1000 * statistics.median(values) for values in (*costs.values(), *shakes.values()))
    yield (f"CPU of a request with TLS and a token: {secured:.2f} ms, without {plain:.2f} ({secured / plain:.2f}x, "
           f"wanted 1.3x); of a whole connection with one request {shaken:.2f} and {bare:.2f} ms")
