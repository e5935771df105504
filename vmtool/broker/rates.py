"""How often one address may ask, and which refusal is worth a line in the log."""

from __future__ import annotations

from collections.abc import Callable

from vmtool.serving.front.clients import Budgets


class Rates:
    """The budgets of the addresses.

    Args:
        per_minute: requests of one address; as many at once.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self.refused: set[str] = set()
        self.budgets = Budgets(per_minute, clock, self.refused.discard)

    def take(self, address: str) -> bool:
        """Whether one more is allowed."""
        budget = self.budgets.of(address)
        if budget.wait():
            return False
        budget.take(1)
        self.refused.discard(address)
        return True

    def is_news(self, address: str) -> bool:
        """Whether it is the first refusal since that address was last allowed: a flood fills no log."""
        news = address not in self.refused
        self.refused.add(address)
        return news
