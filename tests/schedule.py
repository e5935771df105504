"""How tests are dealt out to the processes that run them: a lane, or a module without one, at a time."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.lanes import lane_of


class Lanes(LoadScopeScheduling):
    """In the order of collection; whoever has nothing left takes the next. The last of more than two processes begins
    at the other end: it computes while the others wait."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if len(self.nodes) > 2 and node is self.nodes[-1]:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
