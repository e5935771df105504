"""How often one address may ask: a bucket that fills up again, for a bounded number of addresses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

MOST = 4096


class Rates:
    """The buckets.

    Args:
        per_minute: requests of one address; as many at once.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.per_minute, self.clock = per_minute, clock
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.refused: set[str] = set()

    def take(self, address: str) -> bool:
        """Whether one more is allowed."""
        now = self.clock()
        left, seen = self.buckets.pop(address, (float(self.per_minute), now))
        left = min(float(self.per_minute), left + (now - seen) * self.per_minute / 60)
        allowed = left >= 1
        self.buckets[address] = (left - allowed, now)
        if len(self.buckets) > MOST:
            gone, _ = self.buckets.popitem(last=False)
            self.refused.discard(gone)
        if allowed:
            self.refused.discard(address)
        return allowed

    def is_news(self, address: str) -> bool:
        """Whether it is the first refusal since that address was last allowed: a flood fills no log."""
        news = address not in self.refused
        self.refused.add(address)
        return news
