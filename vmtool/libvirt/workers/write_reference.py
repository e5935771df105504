"""The reference values of a guest, from the files that it is about to boot: a worker, since they are large."""

from __future__ import annotations

from pathlib import Path

from vmtool.attest.measure.compute import compute
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.measure.reference_text import reference_text
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.tee.table import NONE


@dataclass(frozen=True)
class Order:
    """A guest with a TPM, and the file that receives the values."""

    name: str
    architecture: str
    firmware: Path
    kernel: Path
    initrd: Path
    cmdline: str
    vcpus: int
    memory: int
    machine: str
    qemu: str
    out: Path


def run(order: Order, host: Host) -> None:
    """Write them."""
    guest = MeasuredGuest(NONE, order.architecture, order.firmware, order.kernel, order.initrd, order.cmdline,
                          order.vcpus, order.memory, order.machine, tpm=True,
                          qemu=order.qemu)
    host.write(order.out, reference_text(f"What {order.name} must show.", compute(guest)))
