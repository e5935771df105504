"""Looking at a guest that was just started, the wish against QEMU's arguments; and ending one that was left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from vmtool.errors import VerificationFailed, VmtoolError
from vmtool.host import files, processes
from vmtool.host.local import Machine
from vmtool.machine import Reader
from vmtool.plan import EndGuest, ExpectTee
from vmtool.qemu.claims import vm_claims
from vmtool.qemu.processes import QemuProcess, read_qemu, real_path


def expect_tee(action: ExpectTee, reader: Reader | None = None) -> None:
    """Require the TEE, the devices and the program; keep the arguments as evidence, whatever they show.

    Raises:
        VerificationFailed: the guest is not what was asked for, or there is no single QEMU to look at.
    """
    reader = reader or Machine()
    process = _await(reader, action)
    files.write(action.evidence, f"{process.program}\n" + "\n".join(process.argv) + "\n")
    kernels = {action.kernel, real_path(reader, action.kernel)}
    claims = vm_claims(process.argv, action.tee, action.devices, kernels)
    failed = [f"{claim.id}: {claim.evidence}" for claim in claims if claim.verdict != "proven"]
    if action.program and process.program != real_path(reader, action.program):
        failed.append(f"vm.program: {process.program or 'unknown'} runs, not {action.program}")
    if failed:
        raise VerificationFailed(f"{action.name}: the guest that runs is not what was asked for", details=failed,
                                 hint=f"vmtool doctor --for {action.handler} --tee {action.tee}")


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


def end_guest(action: EndGuest, reader: Reader | None = None) -> None:
    """Kill every QEMU of this name and program, and wait until the kernel has let go of it.

    Raises:
        VmtoolError: one is still there, so its devices are still held.
    """
    reader = reader or Machine()
    program = real_path(reader, action.program)
    found = {process.pid: processes.start_time(process.pid) for process in read_qemu(reader, action.name)
             if process.program == program}
    for pid, started in found.items():
        # A pid can be taken by another process meanwhile; the pair cannot.
        if started and processes.start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + action.deadline
    while left := [pid for pid, started in found.items() if started and processes.start_time(pid) == started]:
        if time.monotonic() > end:
            raise VmtoolError(f"QEMU (pid {left[0]}) of {action.name} survives SIGKILL and still holds its devices",
                              hint="look at dmesg; it may hang in the kernel until a reboot")
        time.sleep(0.05)
