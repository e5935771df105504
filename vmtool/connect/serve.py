"""Runs it: the first verification, the local endpoint, and the verifications after that, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from vmtool.attest.server.errors import NotVerified
from vmtool.attest.server.fetch import fetch
from vmtool.attest.server.place import Place
from vmtool.connect.keeper import Keeper
from vmtool.connect.policy import Policy
from vmtool.connect.proxy import Proxy
from vmtool.connect.verify import Trusted, Verified, verify
from vmtool.errors import Interrupted, NotReady
from vmtool.frozen import dataclass
from vmtool.serving.front.server import listen
from vmtool.serving.listening import listening_socket

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
T = TypeVar("T")


@dataclass(frozen=True)
class Checker:
    """Verifies a server once.

    Args:
        trusted: reads roots and collateral, newly at each call.
    """

    place: Place
    policy: Policy
    trusted: Callable[[], Trusted]

    async def __call__(self) -> Verified:
        """What is proven.

        Raises:
            NotVerified, Unreachable: nothing is.
        """
        answered = await fetch(self.place)

        def judge() -> Verified:
            return verify(answered.data, answered.nonce, answered.key, self.policy, self.trusted(), datetime.now(UTC))

        return await asyncio.to_thread(judge)


def first_key_only(check: Callable[[], Awaitable[Verified]], place: Place) -> Callable[[], Awaitable[Verified]]:
    """The check; but where no hardware and no CA vouches for a key, the first one that was seen stays the only one."""
    first: list[bytes] = []

    async def checked() -> Verified:
        found = await check()
        if not found.confidential and not place.vouched and [found.key] != (first or [found.key]):
            raise NotVerified(f"{place} shows another TLS key than before, and nothing vouches for it",
                              hint="start vmtool connect again, once you know why; a `ca` in the policy decides it")
        first[:] = [found.key]
        return found

    return checked


async def until_stopped(work: Callable[[], Awaitable[T]]) -> T:
    """The work's result.

    Raises:
        Interrupted: a signal came first.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    working, stopped = asyncio.ensure_future(work()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            raise Interrupted("stopped")
        return working.result()
    finally:
        for task in (working, stopped):
            task.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)


async def run(check: Callable[[], Awaitable[Verified]], proxy: Proxy, address: tuple[str, int], max_age: float,
              say: Callable[[str], None], ready: Callable[[Verified, int], None]) -> None:
    """Serve until it is interrupted.

    Args:
        address: where the local endpoint listens.
        ready: called with the first verification, and the port.

    Raises:
        NotVerified, Unreachable: the first verification fails. NotReady: it cannot listen there.
        Interrupted: always, at the end.
    """
    keeper = proxy.keeper = Keeper(check, max_age, proxy.changed, say)
    try:
        bound = listening_socket(address)
    except OSError as error:
        raise NotReady(f"cannot listen on {error.strerror}", hint="vmtool connect --listen 127.0.0.1:0 takes a free "
                       "port") from error
    with contextlib.closing(bound):
        verified = await until_stopped(keeper.verify)
        bound.listen()  # who asks from now on waits a moment
        ready(verified, bound.getsockname()[1])

        async def forward() -> None:
            async with asyncio.TaskGroup() as both:
                both.create_task(keeper.keep())
                both.create_task(listen(proxy, bound, proxy.limits, None))

        try:
            await until_stopped(forward)
        finally:
            proxy.pool.close()
