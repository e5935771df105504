"""Prove that a virtual machine could start with devices that were just bound, and note it."""

from __future__ import annotations

import os
from pathlib import Path

from vmtool.errors import VerificationFailed
from vmtool.frozen import dataclass
from vmtool.gpu import sysfs_writes
from vmtool.gpu.framebuffers import OWN_REGION
from vmtool.gpu.proof import IN_USE, verify_vfio
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """What to prove.

    Args:
        devices: their directories below /sys.
        proofs: directory that receives a file for each device: the boot, and what was seen.
        deadline: seconds; somebody may look at a device of a group just then, and it is opened by one at a time.
    """

    devices: tuple[str, ...]
    proofs: Path
    deadline: float = 5.0


def run(order: Order, host: Host) -> None:
    """Prove all of them.

    Raises:
        VerificationFailed: a machine would not get one of them.
    """
    end = host.now() + order.deadline
    claims = verify_vfio(host, order.devices)
    while any(IN_USE in claim.evidence for claim in claims.values()) and host.now() < end:
        host.sleep(sysfs_writes.POLL)
        claims = verify_vfio(host, order.devices)
    failed = {os.path.basename(directory): claim.evidence for directory, claim in claims.items()
              if claim.verdict != "proven"}
    if failed:
        raise VerificationFailed(
            "bound, but no virtual machine could start with it",
            details=[*(f"{bdf}: {evidence}" for bdf, evidence in failed.items()),
                     *sysfs_writes.kernel_lines(host, order.devices)],
            hint=_hint(failed.values()))
    boot = sysfs_writes.boot_id(host)
    for directory, claim in claims.items():
        host.write(order.proofs / os.path.basename(directory), f"{boot}\n{claim.evidence}\n")


def _hint(evidence: object) -> str:
    if OWN_REGION in str(evidence):
        return "boot with the kernel parameter initcall_blacklist=sysfb_init, so that no framebuffer is made of it"
    return "dmesg tells why the kernel refuses it"
