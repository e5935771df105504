"""e2fsck, whose exit status has bits: 1 is "errors were corrected" (e2fsck(8)), which is no failure: a worker."""

from __future__ import annotations

from vmtool.frozen import dataclass
from vmtool.machine import Host, check


@dataclass(frozen=True)
class Order:
    """How it is called, with its arguments; and what helps when it does not repair."""

    argv: tuple[str, ...]
    hint: str = ""


def run(order: Order, host: Host) -> None:
    """Run it."""
    result = host.execute(order.argv, deadline=3600)
    if result.status != 1:
        check(order.argv, result, order.hint)
