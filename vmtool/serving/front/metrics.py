"""What the front counts, for Prometheus; and vLLM's own metrics, passed on within bounds."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmtool.serving.front.clients import Clients
from vmtool.serving.front.engine import Engine
from vmtool.serving.front.engine_metrics import readable
from vmtool.serving.turns import Share

T = TypeVar("T")
# Rows, and bytes of vLLM's, of which the text is made in one turn of the event loop: about a millisecond.
ROWS, BYTES = 50, 16 << 10
# Of vLLM's: it has some 100 KiB.
MOST_BYTES, SECONDS = 768 << 10, 5.0
# Rows of requests; a token alone could make one for each route and status.
MOST_ROWS = 5000
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
ABORTED = 499
COMMENT = re.compile(rb"^#[^\n]*\n", re.MULTILINE)
KV_CACHE = re.compile(rb"^vllm:(?:kv|gpu)_cache_usage_perc(?:\{[^\n]{0,500}\})? ([0-9.eE+-]{1,30})$", re.MULTILINE)


class Only(CollectorRegistry):
    """One family, as `generate_latest` takes it."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self.family = family

    def collect(self) -> Iterator[Metric]:
        yield self.family


def parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at once as there is time for; also of nothing there is a part."""
    for at in range(0, max(1, len(rows)), ROWS):
        yield rows[at:at + ROWS]


class Metrics(Collector):
    """Of one front.

    Args:
        names: further names under which some of it is shown; "tensafe" is all that there is.
    """

    def __init__(self, clients: Clients, engine: Engine, names: Iterable[str] = ()) -> None:
        self.clients, self.engine, self.tensafe = clients, engine, "tensafe" in names
        self.rows: Counter[tuple[str, str, int]] = Counter()
        self.began, self.kv_cache = time.time(), 0.0
        self.registry = CollectorRegistry(auto_describe=False)
        self.latency = self._histogram("vmtool_request_seconds", "From a request's head to the end of its answer.")
        self.first = self._histogram("vmtool_first_token_seconds", "From a request's head to its stream's first event.")
        if self.tensafe:
            self.tensafe_latency = Histogram("tensafe_vllm_latency_seconds", "Request latency.", buckets=BUCKETS,
                                             registry=self.registry)
        self.registry.register(self)
        # However many scrape at once.
        self.share = Share(spare=True)

    def count(self, route: str, token: str, status: int, seconds: float) -> None:
        """A request is over; status 0 is one that was broken off."""
        row = route, token, status or ABORTED
        self.rows[row if row in self.rows or len(self.rows) < MOST_ROWS else ("other", "other", row[2])] += 1
        if token:
            self.latency.labels(route).observe(seconds)
            if self.tensafe:
                self.tensafe_latency.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """What is read when somebody asks; what may have many rows comes in several."""
        for rows in parts(tuple(self.rows.items())):
            requests = CounterMetricFamily("vmtool_requests", "Requests, by the key or token that was shown.",
                                           labels=("route", "token", "status"))
            for (route, token, status), count in rows:
                requests.add_metric((route, token, str(status)), count)
            yield requests
        for clients in parts(tuple(self.clients)):
            tokens = CounterMetricFamily("vmtool_tokens", "Tokens read and made.", labels=("token", "kind"))
            for client in clients:
                tokens.add_metric((client.token.name, "prompt"), client.usage.prompt)
                tokens.add_metric((client.token.name, "completion"), client.usage.completion)
            yield tokens
        for clients in parts(tuple(self.clients)):
            running = GaugeMetricFamily("vmtool_requests_in_flight", "Being answered now.", labels=("token",))
            for client in clients:
                running.add_metric((client.token.name,), len(client.running))
            yield running
        yield GaugeMetricFamily("vmtool_engine_up", "Whether vLLM answers.", value=self.engine.healthy)
        yield CounterMetricFamily("vmtool_engine_restarts", "Starts after vLLM died.", value=self.engine.restarts)
        yield GaugeMetricFamily("vmtool_front_start_time_seconds", "When the front began.", value=self.began)
        yield from self._tensafe() if self.tensafe else ()

    async def text(self) -> bytes:
        """All of it, with vLLM's own where it answers in time; made bit by bit, since others wait for that long."""
        engines = await self._engines()
        found = KV_CACHE.search(engines)
        self.kv_cache = float(found[1]) if found else 0.0
        text, last = bytearray(), ""
        for family in self.registry.collect():
            await self.share.turn()
            lines = generate_latest(Only(family))
            text += lines if family.name != last else COMMENT.sub(b"", lines)
            last = family.name
        return bytes(text) + engines

    def _tensafe(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("tensafe_vllm_requests", "Requests by status.", labels=("status",))
        by_status: Counter[int] = Counter()
        for (_, _, status), count in self.rows.items():
            by_status[status] += count
        for status, count in by_status.items():
            requests.add_metric((str(status),), count)
        made = sum(client.usage.completion for client in self.clients)
        yield requests
        yield GaugeMetricFamily("tensafe_vllm_tokens_generated", "Tokens generated.", value=made)
        yield CounterMetricFamily("tensafe_vllm_he_operations", "HE operations: there are none.", value=0)
        yield GaugeMetricFamily("tensafe_vllm_kv_cache_utilization", "KV cache usage.", value=self.kv_cache)

    async def _engines(self) -> bytes:
        text = bytearray()
        try:
            async with asyncio.timeout(SECONDS), self.engine.ask("GET", "/metrics") as reply:
                while piece := await reply.read():
                    text += piece
                    if len(text) > MOST_BYTES:
                        return b""
            return await self._readable(bytes(text)) if reply.status == 200 else b""
        except (OSError, TimeoutError):
            return b""

    async def _readable(self, text: bytes) -> bytes:
        kept, at = bytearray(), 0
        while at < len(text):
            end = text.find(b"\n", at + BYTES) + 1 or len(text)
            await self.share.turn()
            kept += readable(text[at:end])
            at = end
        return bytes(kept)

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(name, about, ("route",), buckets=BUCKETS, registry=self.registry)
