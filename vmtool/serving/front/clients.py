"""Those who may ask, as the front knows them while it runs: what each has used, and what it still may."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmtool.serving.access_list import AccessList, AccessToken
from vmtool.serving.front.denied import Denied
from vmtool.serving.turns import Share

if TYPE_CHECKING:
    from vmtool.serving.front.connection import Connection

MOST_ADDRESSES = 4096
HEADERS = {name: tuple(f"x-ratelimit-{what}-{name}" for what in ("limit", "remaining", "reset"))
           for name in ("requests", "tokens")}


class Budget:
    """So many in a minute, as many at once when nothing was used for a minute.

    What is known only afterwards may bring it below zero; then nothing more is granted until it has recovered.
    The clock is one that nobody sets.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self.clock = limit, clock
        self.left, self.since = float(limit), clock()

    def level(self) -> float:
        """How many are left now."""
        now = self.clock()
        self.left = min(self.limit, self.left + (now - self.since) * self.limit / 60)
        self.since = now
        return self.left

    def take(self, count: float) -> None:
        self.left = self.level() - count

    def wait(self, level: float = 1.0) -> float:
        """Seconds until that many are left."""
        return max(0.0, (level - self.level()) * 60 / self.limit)


class Budgets:
    """One for each address, of the addresses that were seen last.

    Args:
        forget: called with an address whose budget is kept no more.
    """

    def __init__(self, limit: int, clock: Callable[[], float],
                 forget: Callable[[str], None] = lambda address: None) -> None:
        self.limit, self.clock, self.forget = limit, clock, forget
        self.known: OrderedDict[str, Budget] = OrderedDict()

    def of(self, address: str) -> Budget:
        """Its budget; a whole one when it was not seen for long."""
        found = self.known.get(address) or self.known.setdefault(address, Budget(self.limit, self.clock))
        self.known.move_to_end(address)
        if len(self.known) > MOST_ADDRESSES:
            self.forget(self.known.popitem(last=False)[0])
        return found


@dataclass
class Usage:
    """What a client has used since the front's start."""

    requests: int = 0
    prompt: int = 0
    completion: int = 0
    last: float | None = None


class Client:
    """A key or token that may ask, with a share of the event loop for all its connections and their answers."""

    def __init__(self, token: AccessToken, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.usage, self.share = clock, Usage(), Share()
        self.running: set[Connection] = set()
        self.limit(token)

    def limit(self, token: AccessToken) -> None:
        """Take these limits from now on; a budget whose limit stays keeps what is left of it."""
        before = getattr(self, "budgets", {})
        self.token = token
        self.budgets = {
            name: before[name] if name in before and before[name].limit == limit else Budget(limit, self.clock)
            for name, limit in (("requests", token.requests), ("tokens", token.tokens)) if limit}

    def admit(self) -> None:
        """A request begins.

        Raises:
            Denied: a limit is reached; the answer says when to come again.
        """
        self.usage.requests, self.usage.last = self.usage.requests + 1, self.clock()
        if self.token.streams and len(self.running) >= self.token.streams:
            raise Denied(429, f"this token has {self.token.streams} answers at once; wait for one to end",
                         {"Retry-After": "1"})
        for name, budget in self.budgets.items():
            if wait := budget.wait():
                raise Denied(429, f"this token has {budget.limit} {name} in a minute, and they are used; try again in "
                             f"{math.ceil(wait)} s", {"Retry-After": str(math.ceil(wait))})
        if requests := self.budgets.get("requests"):
            requests.take(1)

    def spend(self, tokens: float) -> None:
        """Tokens were read or made for it; a negative number corrects what was counted too high."""
        if budget := self.budgets.get("tokens"):
            budget.take(tokens)

    def headers(self) -> dict[str, str]:
        """What OpenAI's clients read of limits."""
        shown = {}
        for name, budget in self.budgets.items():
            (limit, remaining, reset), level = HEADERS[name], budget.level()
            shown[limit] = str(budget.limit)
            shown[remaining] = str(max(0, math.floor(level)))
            shown[reset] = duration(budget.wait(budget.limit))
        return shown


class Clients:
    """All of them, by digest: what a client sends is hashed first, so that how long the search takes says nothing."""

    def __init__(self, access: AccessList, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.by_digest: dict[bytes, Client] = {}
        self.change(access)

    def change(self, access: AccessList) -> None:
        """From now on these: who stays keeps what it has used, the answers of who is revoked end here."""
        earlier, self.by_digest = self.by_digest, {}
        for token in access.tokens:
            known = earlier.pop(token.digest, None)
            if known:
                known.limit(token)
            self.by_digest[token.digest] = known or Client(token, self.clock)
        for gone in earlier.values():
            for connection in tuple(gone.running):
                connection.drop()

    def __iter__(self) -> Iterator[Client]:
        return iter(self.by_digest.values())


def duration(seconds: float) -> str:
    """As OpenAI writes it: 120ms, 6s, 1m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"
