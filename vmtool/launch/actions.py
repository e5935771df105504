"""Actions of a launch as a whole."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vmtool.frozen import dataclass
from vmtool.instance.instance import Paths
from vmtool.instance.read import read_starting
from vmtool.plan.action import Action
from vmtool.proof.evidence import evidence_digests, evidence_text
from vmtool.proof.requirements import require_before_key, require_request

if TYPE_CHECKING:
    from vmtool.machine import Host


@dataclass(frozen=True)
class RequireClaims(Action):
    """Verify what really runs; a claim that failed ends the launch, and so everything is undone.

    Args:
        root: the state directory; directory: the instance's.
        moment: "key", what must be so before the workload gets its keys; or "end", everything, which becomes the
            launch's evidence.
        slot: see `Paths`; beside: it is launched beside another one.
    """

    root: Path
    directory: Path
    moment: Literal["key", "end"]
    slot: str = ""
    beside: bool = False

    def shell(self) -> str:
        # 4 is a claim that failed; 1 only says that the launch has not come to its end.
        what = "--before-key" if self.moment == "key" else "--proof"
        what += " --beside" if self.beside else ""
        return (f"vmtool --state-dir {shlex.quote(str(self.root))} status {self.directory.name} {what} || "
                "[ $? -eq 1 ]")

    def do(self, host: Host) -> None:
        from vmtool.bundle.observed import ObservingReader  # none of it is needed by whoever plans
        from vmtool.launch.claims import read_claims, read_claims_before_key
        from vmtool.launch.keep_answer import keep_answer

        instance = read_starting(host, Paths(self.directory, self.slot))
        record = instance.known()
        if self.moment == "key":
            require_before_key(record, read_claims_before_key(host, instance))
            return
        observed = ObservingReader(host)
        claims = read_claims(observed, instance, whole=True)
        keep_answer(host, observed, instance)
        digests = dict(evidence_digests(instance.paths, record))
        host.write(instance.paths.proof, evidence_text(record, claims, digests, time.time()))
        require_request(record, claims)
