"""When a server counts as verified, and when all that goes on ends; on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from vmtool.attest.server.errors import NotNow, NotVerified, Unreachable
from vmtool.connect.keeper import Keeper
from vmtool.connect.verify import Verified
from vmtool.errors import VmtoolError

KEY, OTHER = b"k" * 32, b"o" * 32


@dataclass
class Server:
    """What the next verifications give, and what the keeper has called."""

    results: Iterator[Verified | Exception]
    now: float = 0.0
    calls: list[bool] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    async def check(self) -> Verified:
        result = next(self.results)
        if isinstance(result, Exception):
            raise result
        return result

    def keeper(self) -> Keeper:
        return Keeper(self.check, 100, self.calls.append, self.said.append, lambda: self.now)


def served(*results: Verified | Exception) -> tuple[Server, Keeper]:
    server = Server(iter(results))
    return server, server.keeper()


def snp(key: bytes = KEY) -> Verified:
    return Verified(key, "snp")


def test_nothing_counts_before_the_first_verification() -> None:
    with pytest.raises(NotVerified, match="not verified yet"):
        served()[1].require()


def test_a_verification_counts_from_its_beginning_and_not_a_second_longer() -> None:
    server, keeper = served(snp())
    asyncio.run(keeper.verify())
    server.now = 100
    assert keeper.require().key == KEY
    server.now = 100.1
    with pytest.raises(NotVerified, match="older than 100 s"):
        keeper.require()
    assert server.calls == [False, True], "what goes on is cut"


def test_another_key_stops_everything_until_that_one_is_verified() -> None:
    server, keeper = served(snp(), snp(OTHER))
    asyncio.run(keeper.verify())
    keeper.matches(KEY)
    with pytest.raises(NotVerified, match="another TLS key"):
        keeper.matches(OTHER)
    assert keeper.woken.is_set(), "it is verified at once"
    with pytest.raises(NotVerified, match="another TLS key"):
        keeper.require()
    with pytest.raises(NotVerified):
        keeper.matches(KEY)
    asyncio.run(keeper.verify())
    keeper.matches(OTHER)
    assert True not in server.calls, "what was verified may end by itself"
    assert server.said[0].startswith("nothing is forwarded: the server shows another TLS key")


@pytest.mark.parametrize("error", [NotVerified("debug"), VmtoolError("a root is gone"), ValueError("odd")])
def test_a_verification_that_fails_cuts_what_goes_on(error: Exception) -> None:
    server, keeper = served(snp(), error, snp())
    asyncio.run(keeper.verify())
    with pytest.raises(VmtoolError):
        asyncio.run(keeper.verify())
    with pytest.raises(NotVerified):
        keeper.require()
    assert server.calls == [False, True]
    asyncio.run(keeper.verify())
    assert keeper.require().key == KEY
    assert server.said[-1].startswith("verified again")


@pytest.mark.parametrize("error", [NotNow("busy"), Unreachable("gone")])
def test_no_answer_says_nothing_until_the_last_one_is_too_old(error: Exception) -> None:
    server, keeper = served(snp(), error, error)
    asyncio.run(keeper.verify())
    server.now = 99
    with pytest.raises(VmtoolError):
        asyncio.run(keeper.verify())
    assert keeper.require().key == KEY
    server.now = 101
    with pytest.raises(VmtoolError):
        asyncio.run(keeper.verify())
    with pytest.raises(NotVerified, match=f"older than 100 s: {error}"):
        keeper.require()
    assert server.calls == [False, True]


def test_the_loop_verifies_before_the_last_one_is_too_old_and_after_another_key() -> None:
    server, keeper = served(snp(), NotNow("busy"), snp(OTHER), snp(OTHER))
    keeper.max_age = 0.02

    async def run() -> None:
        await keeper.verify()
        keeping = asyncio.create_task(keeper.keep())
        while keeper.known != snp(OTHER):
            await asyncio.sleep(0.001)
        keeping.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))
    assert keeper.require() == snp(OTHER)
    assert server.said == ["not verified again: busy"]
