"""The reference values of a guest in a TEE, from the files that it is about to boot: a worker, since they are large."""

from __future__ import annotations

from pathlib import Path

from vmtool.attest.measure.compute import Computed, compute
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.measure.reference_text import reference_text
from vmtool.errors import VmtoolError
from vmtool.frozen import dataclass
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """A guest, and the file that receives the values."""

    name: str
    guest: MeasuredGuest
    out: Path


def run(order: Order, host: Host) -> None:
    """Write them. What cannot be computed ends no launch: its evidence is then not checked, for that reason."""
    try:
        computed = compute(order.guest)
    except VmtoolError as error:
        computed = Computed({}, {order.guest.tee: error.message + (f" ({error.hint})" if error.hint else "")})
    host.write(order.out, reference_text(f"What {order.name} must show.", computed))
