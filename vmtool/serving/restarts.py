"""When a server that died is started again: what is asked for, and the decision; nothing here starts anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Policy = Literal["always", "on-failure", "no"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
# A server that answered for that long was well: what ends it begins a new row of failures.
STEADY_SECONDS = 300.0
LONGEST_WAIT = 300.0


@dataclass(frozen=True)
class RestartPolicy:
    """What is asked for.

    Args:
        policy: "always" starts again whatever ended and was not stopped, "on-failure" what did not end with exit
            status 0, "no" nothing.
        backoff: seconds of the shortest wait; each further one of a row is twice as long, `LONGEST_WAIT` at most.
        limit: starts in a row, without a steady time between them, before it is given up.
    """

    # vLLM ends with 0 when its engine core was killed: "on-failure" would take that for its end.
    policy: Policy = "always"
    backoff: float = 1.0
    limit: int = 10

    def wants(self, code: int) -> bool:
        """Whether what ended with that exit status, negative for a signal, is started again."""
        return self.policy == "always" or (self.policy == "on-failure" and code != 0)

    def wait(self, row: int) -> float:
        """Seconds before a start that follows on so many vain ones in a row."""
        # The exponent is bounded, since a float is.
        return min(LONGEST_WAIT, self.backoff * 2.0 ** min(row, 30))


# Of a spec that says nothing: nobody is awake at night to do it by hand.
USUAL = RestartPolicy()


@dataclass
class Restarts:
    """Counts the starts of one server, and decides on the next one.

    Attributes:
        row: starts since it was last well.
        total: all of them.
        proven: it has answered at least once.
    """

    policy: RestartPolicy
    row: int = 0
    total: int = 0
    proven: bool = False

    def next_wait(self, code: int, served: float | None) -> float | None:
        """Seconds until it is started again; None when it is not.

        A server that has never answered is not started again: whoever launched it waits, and gets the reason at once.

        Args:
            code: its exit status; negative for a signal.
            served: seconds since it first answered, None when it did not.
        """
        self.proven = self.proven or served is not None
        if served is not None and served >= STEADY_SECONDS:
            self.row = 0
        if not self.proven or not self.policy.wants(code) or self.row >= self.policy.limit:
            return None
        wait = self.policy.wait(self.row - 1) if self.row else 0.0
        self.row += 1
        self.total += 1
        return wait
