"""Actions on images."""

from __future__ import annotations

from dataclasses import replace

from vmtool.frozen import dataclass
from vmtool.plan.programs import Run


@dataclass(frozen=True)
class RunGuest(Run):
    """Run a guest to its end, which need not come by itself: its line has the deadline as well."""

    def shell(self) -> str:
        return Run.shell(replace(self, argv=("timeout", f"{self.deadline:g}", *self.argv)))
