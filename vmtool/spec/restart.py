"""What happens when the server dies: `spec.restart`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vmtool.schema import Strict
from vmtool.serving.restarts import USUAL, Policy, RestartPolicy


class Restart(Strict):
    """When a server that has died is started again: inside by its front, and by `vmtool watch` the whole instance.

    Args:
        policy: always whatever its exit status, on-failure unless that is 0, no never; e.g. `on-failure`
        backoff: seconds before the second start of a server in a row, the first being at once, and before the first
            of the whole instance; each further one waits twice as long, 300 at most; e.g. `5`
        limit: starts in a row, none of which led to five steady minutes, before it is given up; e.g. `3`
    """

    policy: Policy = USUAL.policy
    backoff: Annotated[float, Field(ge=0, le=3600)] = USUAL.backoff
    limit: Annotated[int, Field(ge=1, le=1_000_000)] = USUAL.limit

    @property
    def asked(self) -> RestartPolicy:
        """For who decides."""
        return RestartPolicy(self.policy, self.backoff, self.limit)

    @property
    def words(self) -> tuple[str, ...]:
        """The entrypoint's options; none for what it does anyway."""
        if self.asked == USUAL:
            return ()
        return ("--restart", self.policy, "--restart-backoff", f"{self.backoff:g}", "--restart-limit", str(self.limit))
