"""What is known of the server now: the key that was verified, or why nothing may be sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from vmtool.attest.appraisal import describe
from vmtool.attest.server.errors import NotNow, NotVerified, Unreachable
from vmtool.connect.verify import Verified
from vmtool.errors import VmtoolError

# A verification begins when this part of the time is over for which the last one counts: no request waits for it.
BEGIN = 0.75
# Seconds until the next try after one that failed; each further one waits twice as long.
FIRST, LONGEST = 1.0, 30.0


class Keeper:
    """Verifies again and again, and stops everything at once when that fails.

    Args:
        check: verifies the server, on a connection of its own.
        max_age: seconds for which a verification counts.
        changed: called whenever another key, or none, is the verified one; `cut` when what goes on must end as well.
        say: receives a line for each change.
    """

    def __init__(self, check: Callable[[], Awaitable[Verified]], max_age: float, changed: Callable[[bool], None],
                 say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.check, self.max_age, self.changed, self.say, self.clock = check, max_age, changed, say, clock
        self.verified: Verified | None = None
        self.known: Verified | None = None
        self.since, self.reason = 0.0, "it was not verified yet"
        self.woken = asyncio.Event()

    def require(self) -> Verified:
        """The server, as it was verified a while ago at most.

        Raises:
            NotVerified: it is not, or no more.
        """
        if self.verified and self._age() > self.max_age:
            self._stop(f"the last verification is older than {self.max_age:g} s: {self.reason}", cut=True)
        if not self.verified:
            raise NotVerified(self.reason)
        return self.verified

    def matches(self, key: bytes) -> None:
        """A new connection shows this key.

        Raises:
            NotVerified: it is another than the verified one; from now on nothing is sent until that one is verified.
        """
        if key != self.require().key:
            self._stop("the server shows another TLS key than the one that was verified", cut=False)
            self.woken.set()
            raise NotVerified(self.reason)

    def stop(self, reason: str) -> None:
        """Nothing goes on any more, until the server is verified again, which is tried at once."""
        self._stop(reason, cut=True)
        self.woken.set()

    async def verify(self) -> Verified:
        """Verify now.

        Raises:
            NotVerified, Unreachable: it fails; unless there is just no answer, what was verified before counts no more.
        """
        began = self.clock()
        try:
            found = await self.check()
        except (NotNow, Unreachable) as error:
            self.reason = error.message
            with contextlib.suppress(NotVerified):
                self.require()
            raise
        except VmtoolError as error:
            self._stop("; ".join((error.message, *error.details)), cut=True)
            raise
        except Exception as error:
            self._stop(f"its evidence cannot be judged: {describe(error)}", cut=True)
            raise NotVerified(self.reason) from error
        self._take(found, began)
        return found

    async def keep(self) -> None:
        """For ever."""
        wait, failed = self.max_age * BEGIN, 0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), wait)
            self.woken.clear()
            try:
                await self.verify()
                wait, failed = self.max_age * BEGIN, 0
            except VmtoolError as error:
                if not failed:
                    self.say(f"not verified again: {error.message}")
                wait, failed = min(LONGEST, FIRST * 2 ** min(failed, 10), self._left()), failed + 1

    def _take(self, found: Verified, began: float) -> None:
        before, self.verified, self.since, self.reason = self.verified, found, began, "no newer one has come"
        if not before or before.key != found.key:
            self.changed(False)
        if self.known and not before:
            self.say(f"verified again: {found.title}")
        self.known = found

    def _stop(self, reason: str, *, cut: bool) -> None:
        stopped, self.verified, self.reason = self.verified, None, reason
        if stopped or cut:
            self.changed(cut)
        if stopped:
            self.say(f"nothing is forwarded: {reason}")

    def _age(self) -> float:
        return self.clock() - self.since

    def _left(self) -> float:
        """Seconds until the last verification counts no more; then `require` says so, and what goes on ends."""
        return max(0.1, self.max_age - self._age()) if self.verified else LONGEST
