"""Looking at a guest that was just started: the wish against QEMU's arguments."""

from __future__ import annotations

import time

from vmtool.errors import VerificationFailed
from vmtool.facts.qemu import QemuProcess, read_qemu
from vmtool.facts.reader import Reader
from vmtool.host import files
from vmtool.host.look import Machine
from vmtool.kata.claims import vm_claims
from vmtool.plan import ExpectTee


def expect_tee(action: ExpectTee, reader: Reader | None = None) -> None:
    """Require the TEE, the devices and the program; keep the arguments as evidence, whatever they show.

    Raises:
        VerificationFailed: the guest is not what was asked for, or there is no single QEMU to look at.
    """
    process = _await(reader or Machine(), action)
    files.write(action.evidence, f"{process.program}\n" + "\n".join(process.argv) + "\n")
    claims = vm_claims(process.argv, action.tee, action.devices, action.kernel)
    failed = [f"{claim.id}: {claim.evidence}" for claim in claims if claim.verdict != "proven"]
    if action.program and process.program != action.program:
        failed.append(f"vm.program: {process.program or 'unknown'} runs, not {action.program}")
    if failed:
        raise VerificationFailed(f"{action.name}: the guest that runs is not what was asked for", details=failed,
                                 hint="vmtool doctor --for kata --tee " + action.tee)


def _await(reader: Reader, action: ExpectTee) -> QemuProcess:
    """The one QEMU of this name."""
    end = time.monotonic() + action.deadline
    found = read_qemu(reader, action.name)
    while not found and time.monotonic() < end:
        time.sleep(0.1)
        found = read_qemu(reader, action.name)
    if len(found) != 1:
        raise VerificationFailed(f"{action.name}: {len(found) or 'no'} QEMU processes have this name, so it is not "
                                 "known what runs", hint="ps -ef | grep qemu")
    return found[0]
