"""Verifies a running instance again and prints its claims: a worker, so that watch itself stays small."""

from __future__ import annotations

import json
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.paths import State


@dataclass(frozen=True)
class Order:
    """Which instance.

    Args:
        root: of the state directory.
    """

    root: Path
    name: str


def run(order: Order, host: Host) -> None:
    """Do it."""
    # Not above: watch itself makes orders, and has no need of all that a launch knows.
    from vmtool.instance.read import read_instance
    from vmtool.launch.claims import read_claims

    claims = read_claims(host, read_instance(State(order.root), order.name), whole=True)
    print(json.dumps([vars(claim) for claim in claims]))
