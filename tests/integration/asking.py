"""Clients that ask without a pause while something else happens: on one connection, on new ones, and by a stream."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

QUESTION = {"model": "canary", "messages": [{"role": "user", "content": "What is confidential computing?"}]}
SECONDS = 30.0


@dataclass
class Asking:
    """What the clients have seen so far."""

    port: int
    key: str
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    slowest: float = 0.0
    streams: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, connection: http.client.HTTPConnection, **more: object) -> http.client.HTTPResponse:
        connection.request("POST", "/v1/chat/completions", json.dumps({**QUESTION, **more}), {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"{response.status} {response.read()[:200]!r}")
        return response

    def repeat(self, rate: float, connect: Callable[[], http.client.HTTPConnection]) -> None:
        """Ask so often a second."""
        due = time.monotonic()
        while not self.over.wait(max(0.0, due - time.monotonic())):
            due, began = due + 1 / rate, time.monotonic()
            try:
                assert json.loads(self.ask(connect()).read())["choices"]
                self.answers += 1
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.errors.append(f"{type(error).__name__} {error}")
            self.slowest = max(self.slowest, time.monotonic() - began)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def stream(self, pieces: int) -> None:
        """Have one long answer, fifty pieces a second."""
        try:
            connection = self.connection()
            data = [line for line in self.ask(connection, stream=True, max_tokens=pieces) if line.startswith(b"data: ")]
            if data[-1] != b"data: [DONE]\n":
                self.errors.append(f"a stream broke off after {len(data)} pieces")
            self.streams.append(len(data) - 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.errors.append(f"stream: {type(error).__name__} {error}")


@contextlib.contextmanager
def asking(port: int, key: str, pieces: int) -> Iterator[Asking]:
    """Fifty requests a second, half of them on one connection, and one stream; all have ended after the block."""
    seen = Asking(port, key)
    kept = seen.connection()
    threads = [threading.Thread(target=seen.repeat, args=(25, lambda: kept)),
               threading.Thread(target=seen.repeat, args=(25, seen.connection)),
               threading.Thread(target=seen.stream, args=(pieces,))]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.over.set()
        for thread in threads:
            thread.join(2 * SECONDS)
