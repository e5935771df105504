"""What an attack on the front changes for its other clients, beside aiohttp's plain proxy and the engine alone."""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.serving.holder import KINDS
from tests.integration.serving.processes import Serving, serving, until
from tests.integration.serving.run_front import OTHER
from tests.integration.serving.run_turns import MARK

Connect = Callable[[], socket.socket]
ATTACKS, REQUESTS = 5, 300
# Of another key, and nothing that the engine has a part in.
OTHERS = f"GET /none HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OTHER}\r\n\r\n".encode()


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


def cpu(pid: int) -> float:
    """Seconds of CPU that a process of one thread has used."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


@contextlib.contextmanager
def attacked(port: int) -> Iterator[list[float]]:
    """While 1,000 idle connections and 50 with endless headers come; at the end, connections a second and CPU."""
    figures: list[float] = []
    with subprocess.Popen([sys.executable, "-m", f"{__package__}.attack", str(port), "1000", "50"],
                          stdout=subprocess.PIPE) as attack:
        try:
            assert attack.stdout and attack.stdout.readline()
            began = time.perf_counter()
            time.sleep(2)
            yield figures
            taken, used = time.perf_counter() - began, cpu(attack.pid)
            attack.terminate()
            figures += [int(attack.stdout.readline()) / taken, used / taken]
        finally:
            attack.kill()


def measure_attacked(one: Serving, engine: Connect, proxied: Connect, port: int, request: bytes) -> Iterator[str]:
    """The engine alone, which nobody attacks, shows what the attacker's own use of the processors does to all."""
    def sample(connect: Connect) -> list[float]:
        return [value for _ in range(5) for value in latencies(connect, request, 100)]

    taken: dict[str, list[list[float]]] = {}
    figures: dict[str, list[list[float]]] = {"front": [], "plain proxy": []}
    for _ in range(ATTACKS):
        for name, connect, at in (("front", one.connect, one.port), ("plain proxy", proxied, port)):
            taken.setdefault(name, []).append(sample(connect))
            taken.setdefault(f"engine, nobody attacks the {name}", []).append(sample(engine))
            with attacked(at) as each:
                figures[name].append(each)
                taken.setdefault(f"{name} attacked", []).append(sample(connect))
                taken.setdefault(f"engine beside the {name} attacked", []).append(sample(engine))
            until(lambda: one.open_connections() < 50, "the attacker's connections stay")
    p99s = {name: 1000 * statistics.median(map(p99, rounds)) for name, rounds in taken.items()}
    p50s = {name: 1000 * statistics.median(itertools.chain(*rounds)) for name, rounds in taken.items()}
    for name, wanted in (("front", ", wanted 2x"), ("plain proxy", "")):
        calm, during = p99s[name], p99s[f"{name} attacked"]
        own, beside = p99s[f"engine, nobody attacks the {name}"], p99s[f"engine beside the {name} attacked"]
        rate, used = (statistics.median(values) for values in zip(*figures[name], strict=True))
        yield (f"{name} under 1,000 idle connections and 50 with endless headers, medians of {ATTACKS}: p99 {calm:.2f} "
               f"ms before, {during:.2f} during ({during / calm:.2f}x{wanted}), p50 {p50s[name]:.2f} and "
               f"{p50s[f'{name} attacked']:.2f}; the engine alone p99 {own:.2f} and {beside:.2f} ({beside / own:.2f}"
               f"x); the attacker, of lowest priority, opened {rate:.0f} a second and used {100 * used:.0f} % of a "
               "core")
    yield f"the front's memory: {one.memory() >> 20} MiB at most"


def measure_turns(directory: Path) -> Iterator[str]:
    """What one turn of the front's loop takes of a processor: nobody waits less, and another load changes it little."""
    directory.mkdir()
    with serving(directory, runner=f"{__package__}.run_turns") as one:
        turns(one)
        latencies(one.connect, one.chat(), 1000)
        calm, calm_most = turns(one)
        with attacked(one.port):
            turns(one)
            latencies(one.connect, one.chat(), 1000)
            during, most = turns(one)
    yield (f"CPU of a turn of the front's loop, p99: {calm:.2f} ms before the attack, {during:.2f} during "
           f"({during / calm:.2f}x); the longest {calm_most:.2f} and {most:.2f}")


def turns(one: Serving) -> tuple[float, float]:
    """Milliseconds of CPU of its turns since the last time: p99 and the longest."""
    before = one.log().count(MARK)
    one.front.send_signal(signal.SIGUSR1)
    until(lambda: one.log().count(MARK) > before, "the front does not tell its turns")
    longest, most = one.log().rpartition(MARK)[2].split()[:2]
    return 1000 * float(longest), 1000 * float(most)


def measure_holders(directory: Path) -> Iterator[str]:
    """What the front does for others while a client with another key waits, when one key asks as much as it may."""
    directory.mkdir()
    for kind in KINDS:
        (directory / kind).mkdir()
        with serving(directory / kind, runner=f"{__package__}.run_turns") as one, subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.holder", str(one.port), kind],
                stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout and holder.stdout.readline()
                turns(one)
                costs = sorted(waited(one))
                longest, most = turns(one)
            finally:
                holder.kill()
            yield (f"beside a key that holds it by {kind}: CPU of the front while another waits p50 "
                   f"{1000 * statistics.median(costs):.2f} ms p99 {1000 * p99(costs):.2f}; of a turn p99 "
                   f"{longest:.2f}, the longest {most:.2f}; {one.memory() >> 20} MiB")


def waited(one: Serving) -> Iterator[float]:
    """The front's CPU between a request and its answer."""
    with one.connect() as connection:
        for _ in range(REQUESTS):
            before = cpu(one.front.pid)
            exchange(connection, OTHERS)
            yield cpu(one.front.pid) - before
            time.sleep(0.002)
