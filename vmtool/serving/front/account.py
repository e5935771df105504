"""What one request costs its client: tokens are charged as they pass, and set right at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from vmtool.serving.front.clients import Client
from vmtool.serving.front.meter import Meter
from vmtool.serving.front.upstream import Upstream


class Account:
    """One request's.

    Args:
        size: bytes of its body.
        first: called once, when the first event of a stream passes.
    """

    def __init__(self, client: Client, size: int, first: Callable[[], None]) -> None:
        self.client, self.size, self.charged, self.whole = client, size, 0, False
        self.first: Callable[[], None] | None = first
        self.meter = Meter(0, events=False)

    @contextlib.contextmanager
    def open(self, reply: Upstream) -> Iterator[None]:
        """While the answer comes; one that is refused costs no tokens, one that breaks off what has passed."""
        kind = next((value for name, value in reply.headers if name.lower() == b"content-type"), b"")
        if reply.status < 400:
            self.meter = Meter(self.size, events=kind.startswith(b"text/event-stream"))
        try:
            yield
        finally:
            if not self.whole:
                self._book()

    def see(self, chunk: bytes) -> None:
        """A piece of the answer passes."""
        self.meter.see(chunk)
        if self.first and self.meter.events:
            self.first()
            self.first = None
        if self.meter.events and self.client.budgets:  # a stream may be long; else the end comes at once
            self._charge()

    def close(self) -> None:
        """The answer has passed whole."""
        self.whole = True
        self._book()

    def headers(self) -> Mapping[str, str]:
        """What the client learns along with the answer."""
        return self.client.headers()

    def _charge(self) -> None:
        total = sum(self.meter.counted(whole=self.whole))
        if total != self.charged:
            self.client.spend(total - self.charged)
            self.charged = total

    def _book(self) -> None:
        self._charge()
        prompt, completion = self.meter.counted(whole=self.whole)
        self.client.usage.prompt += prompt
        self.client.usage.completion += completion
