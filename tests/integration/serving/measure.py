"""What the front costs: latency, requests a second, CPU, gaps of a stream, and what an attack changes for others.

All are ratios or differences against the engine itself, or against aiohttp's plain proxy, taken in turns in one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.serving.certificates import issue, lines, trusting
from tests.integration.serving.processes import Serving, serving, until
from tests.integration.serving.run_front import KEY
from vmtool.serving.access_list import digest_of

Connect = Callable[[], socket.socket]
ROUNDS, REQUESTS, SECONDS, CLIENTS = 5, 300, 1.5, 16
CHUNKS, GAP = 40, 0.02
ATTACKS = 5
TOKEN = b"t" * 32


@contextlib.contextmanager
def plain_proxy(one: Serving) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The proxy before the same engine: its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def exchange(connection: socket.socket, request: bytes) -> None:
    """One request, and the whole of its answer, which has a length."""
    connection.sendall(request)
    data = connection.recv(1 << 16)
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length:")[2].split()[0]) - len(body)
    while left > 0:
        left -= len(connection.recv(1 << 16))


def latencies(connect: Connect, request: bytes, count: int = REQUESTS) -> list[float]:
    """Seconds of requests one after the other on one connection."""
    taken = []
    with connect() as connection:
        for _ in range(count):
            began = time.perf_counter()
            exchange(connection, request)
            taken.append(time.perf_counter() - began)
    return taken


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


def throughput(port: int, request: bytes, secure: ssl.SSLContext | None = None) -> float:
    """Requests a second on several connections."""
    async def run() -> int:
        loop = asyncio.get_running_loop()
        clients = [Client(request) for _ in range(CLIENTS)]
        for client in clients:
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port,
                                         ssl=secure, server_hostname="localhost" if secure else None)
        await asyncio.sleep(SECONDS)
        return sum(client.count for client in clients)

    began = time.perf_counter()
    count = asyncio.run(run())
    return count / (time.perf_counter() - began)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


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
        yield from _attacked(one, engine, request)


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
            before, began = cpu(pid), time.perf_counter()
            rates[at].append(rate := throughput(at, request))
            costs[at].append((cpu(pid) - before) / (rate * (time.perf_counter() - began)))
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
        limited = request.replace(KEY.encode(), TOKEN)
        for _ in range(ROUNDS):
            for name, front, asked in (("plain", one, request), ("secured", other, limited)):
                before, began = cpu(front.front.pid), time.perf_counter()
                rate = throughput(front.port, asked, front.secure)
                costs[name].append((cpu(front.front.pid) - before) / (rate * (time.perf_counter() - began)))
    plain, secured = (1000 * statistics.median(costs[name]) for name in ("plain", "secured"))
    yield (f"CPU of a request with TLS and a token: {secured:.2f} ms, without {plain:.2f} ({secured / plain:.2f}x, "
           "wanted 1.3x)")


def _attacked(one: Serving, engine: Connect, request: bytes) -> Iterator[str]:
    """The engine alone, which nobody attacks, shows what the attacker's own use of the processors does to all."""
    def sample(connect: Connect) -> list[float]:
        return [value for _ in range(5) for value in latencies(connect, request, 100)]

    taken: dict[str, list[list[float]]] = {name: [] for name in ("front", "front attacked", "engine", "engine beside")}
    held = 0
    for _ in range(ATTACKS):
        taken["front"].append(sample(one.connect))
        taken["engine"].append(sample(engine))
        with subprocess.Popen([sys.executable, "-m", f"{__package__}.attack", str(one.port), "1000", "50"],
                              stdout=subprocess.PIPE) as attack:
            try:
                assert attack.stdout and attack.stdout.readline()
                time.sleep(2)
                held = max(held, one.open_connections())
                taken["front attacked"].append(sample(one.connect))
                taken["engine beside"].append(sample(engine))
            finally:
                attack.kill()
        until(lambda: one.open_connections() < 50, "the attacker's connections stay")
    calm, tense, own, beside = (1000 * statistics.median(map(p99, rounds)) for rounds in taken.values())
    before, during, *_ = (1000 * statistics.median(itertools.chain(*rounds)) for rounds in taken.values())
    yield (f"1,000 idle connections and endless headers ({held} descriptors held), medians of {ATTACKS}: p99 "
           f"{calm:.2f} ms before, {tense:.2f} during ({tense / calm:.2f}x, wanted 2x; the engine alone {own:.2f} and "
           f"{beside:.2f}, {beside / own:.2f}x), p50 {before:.2f} and {during:.2f}, {one.memory() >> 20} MiB at most")
