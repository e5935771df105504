"""However many tokens there are, making the text of the metrics holds up nobody for long."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as families

from vmtool.serving import turns
from vmtool.serving.access_list import AccessToken
from vmtool.serving.front import metrics as m
from vmtool.serving.front.clients import Client

VLLMS = b'vllm:a{model_name="canary"} 1\n'


class Reply:
    """vLLM's, in one piece."""

    status = 200

    def __init__(self, text: bytes) -> None:
        self.pieces = [text]

    async def read(self) -> bytes:
        return self.pieces.pop() if self.pieces else b""


class Engine:
    """Up, with a long text."""

    healthy, restarts = True, 0

    @contextlib.asynccontextmanager
    async def ask(self, *_: str) -> AsyncIterator[Reply]:
        yield Reply(VLLMS * 20_000)


def test_the_text_of_many_rows_is_made_bit_by_bit() -> None:
    clients = [Client(AccessToken(f"token-{number}", b"%d" % number)) for number in range(1000)]
    counted = m.Metrics(cast(Any, clients), cast(Any, Engine()), ("tensafe",))
    for number in range(m.MOST_ROWS):
        counted.count(f"GET /{number % 5}", f"token-{number % 1000}", 200 + number // 1000, 0.1)

    async def run() -> tuple[bytes, int]:
        text = await counted.text()
        return text, turns.running().number

    text, taken = turns.run(run())
    rows = m.MOST_ROWS + 2 * len(clients) + len(clients)
    assert taken > rows // (2 * m.ROWS) + len(VLLMS) * 20_000 // (2 * m.BYTES)
    own, engines = text[:-len(VLLMS) * 20_000], text[-len(VLLMS) * 20_000:]
    assert engines == VLLMS * 20_000
    found = {family.name: len(family.samples) for family in families(own.decode())}
    assert (found["vmtool_requests"], found["vmtool_tokens"], found["vmtool_requests_in_flight"]) == (5000, 2000, 1000)
    assert own.count(b"# TYPE vmtool_requests_total counter\n") == own.count(b"# HELP vmtool_tokens_total ") == 1
    whole = generate_latest(counted.registry).splitlines()
    assert set(own.splitlines()) == set(whole)


def test_without_rows_there_are_the_names() -> None:
    counted = m.Metrics(cast(Any, []), cast(Any, Engine()))

    async def run() -> bytes:
        return await counted.text()

    assert b"# TYPE vmtool_requests_total counter\n" in turns.run(run())
