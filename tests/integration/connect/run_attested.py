"""The front in a guest with a processor that only tests trust; as `tests.integration.serving.run_front`.

Beside its socket lie vcek.pem, roots/ (`tests.fakes.snp_signer`) and `behaviour`, which each request for evidence
reads: honest, none (no device), replay (the first evidence again), foreign (over another key), debug, guest (another
measurement), hang, or fail.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.fakes.snp_signer import load
from tests.fakes.tee_guest import FakeGuest
from tests.integration.serving.run_front import run
from vmtool.serving import turns
from vmtool.serving.evidence.collect import collect
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import NotCollected

CHANGES = {"debug": (8, (0xb0000).to_bytes(8, "little")), "guest": (0x90, b"\x23" * 48)}


class Guest:
    """Answers as the file says."""

    def __init__(self, directory: Path) -> None:
        self.behaviour, self.signer = directory / "behaviour", load(directory)
        self.first: Collected | None = None

    def ask(self, bound: bytes) -> Collected | None:
        how = self.behaviour.read_text().strip()
        if how == "none":
            return collect(bound, FakeGuest())
        if how == "fail":
            raise NotCollected("the device is broken")
        if how == "hang":
            time.sleep(3600)
        if how == "foreign":
            bound = bytes(reversed(bound))
        changes = [CHANGES[how]] if how in CHANGES else []
        guest = FakeGuest("sev_guest", lambda data: self.signer.report(data, *changes), self.signer.table)
        found = collect(bound, guest)
        self.first = self.first or found
        return self.first if how == "replay" else found


if __name__ == "__main__":
    turns.run(run(*sys.argv[1:], ask_guest=Guest(Path(sys.argv[1]).parent).ask))
