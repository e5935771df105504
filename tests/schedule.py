"""How tests are dealt out to the processes that run them: a lane, or a module without one, at a time."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.lanes import lane_of


class Lanes(LoadScopeScheduling):
    """In the order of collection; whoever has nothing left takes the next."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)
