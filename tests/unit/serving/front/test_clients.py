"""What a token may ask: budgets by a clock that nobody sets, changed and revoked while it is used."""

from __future__ import annotations

from typing import cast

import pytest

from vmtool.serving.access_list import AccessList, AccessToken
from vmtool.serving.front.clients import Budget, Client, Clients, duration
from vmtool.serving.front.connection import Connection
from vmtool.serving.front.denied import Denied


class Clock:
    """Seconds that pass when it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire:
    dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_a_budget_recovers_evenly_and_is_never_more_than_a_minutes() -> None:
    clock = Clock()
    budget = Budget(60, clock)
    budget.take(60)
    assert (budget.level(), budget.wait(), budget.wait(60)) == (0, 1, 60)
    clock.now += 1.5
    assert (budget.level(), budget.wait()) == (1.5, 0)
    clock.now += 10_000
    assert budget.level() == 60


def test_what_was_used_beyond_it_is_owed() -> None:
    clock = Clock()
    budget = Budget(600, clock)
    budget.take(1200)
    assert (budget.level(), budget.wait()) == (-600, 60.1)


def test_requests_are_refused_with_the_time_to_come_again() -> None:
    clock = Clock()
    client = Client(AccessToken("ci", b"", requests=2), clock)
    client.admit()
    client.admit()
    with pytest.raises(Denied, match="2 requests in a minute") as caught:
        client.admit()
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "30"})
    assert client.headers() == {"x-ratelimit-limit-requests": "2", "x-ratelimit-remaining-requests": "0",
                                "x-ratelimit-reset-requests": "1m0s"}
    clock.now += 30
    client.admit()
    assert client.usage.requests == 4


def test_tokens_are_refused_once_they_are_used() -> None:
    clock = Clock()
    client = Client(AccessToken("ci", b"", tokens=100), clock)
    client.admit()
    client.spend(150)
    with pytest.raises(Denied, match="100 tokens in a minute") as caught:
        client.admit()
    assert caught.value.headers["Retry-After"] == "31"
    assert client.headers()["x-ratelimit-remaining-tokens"] == "0"
    client.spend(-100)
    client.admit()


def test_answers_at_once_are_counted() -> None:
    client = Client(AccessToken("ci", b"", streams=1))
    client.admit()
    client.running.add(cast(Connection, Wire()))
    with pytest.raises(Denied, match="1 answers at once"):
        client.admit()


def test_a_change_keeps_what_was_used_and_ends_what_is_revoked() -> None:
    clock = Clock()
    tokens = AccessToken("key", b"k"), AccessToken("ci", b"c", requests=10), AccessToken("lab", b"l")
    clients = Clients(AccessList(tokens), clock)
    kept, gone = clients.by_digest[b"c"], clients.by_digest[b"l"]
    kept.admit()
    wires = Wire(), Wire()
    kept.running.add(cast(Connection, wires[0]))
    gone.running.add(cast(Connection, wires[1]))
    clients.change(AccessList((AccessToken("key", b"k"), AccessToken("renamed", b"c", requests=10, tokens=5))))
    assert clients.by_digest[b"c"] is kept
    assert (kept.token.name, kept.budgets["requests"].level(), kept.budgets["tokens"].level()) == ("renamed", 9, 5)
    assert b"l" not in clients.by_digest
    assert [wire.dropped for wire in wires] == [False, True]
    clients.change(AccessList((AccessToken("renamed", b"c", requests=20),)))
    assert kept.budgets["requests"].level() == 20
    assert "tokens" not in kept.budgets


@pytest.mark.parametrize(("seconds", "text"), [(0, "0ms"), (0.12, "120ms"), (1, "1s"), (5.2, "6s"), (60, "1m0s"),
                                               (61.5, "1m2s")])
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
