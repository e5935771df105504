"""Actions on QEMU processes that somebody else started."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.errors import VerificationFailed, VmtoolError
from vmtool.facts.qemu_processes import QemuProcess, read_qemu
from vmtool.frozen import dataclass
from vmtool.plan.action import Action
from vmtool.plan.shell_parts import literal, lives
from vmtool.qemu.claims import vm_claims
from vmtool.qemu.processes import opened_devices, real_path
from vmtool.tee.table import tee_of

if TYPE_CHECKING:
    from vmtool.machine import Host


def name_pattern(name: str) -> str:
    """The arguments of a QEMU of this name, as pgrep(1) looks for them: Kata's and libvirt's."""
    return f"-name (guest=)?{literal(name)}(,| |$)"


@dataclass(frozen=True)
class ExpectTee(Action):
    """Look at the arguments of the QEMU that runs, and require the TEE that was asked for.

    Args:
        name: that QEMU was started with, such as sandbox-chat.
        tee: virtcca, snp or tdx.
        devices: PCI addresses that must have been passed on, and no other.
        program: the emulator that must run; empty for any.
        evidence: file that receives the arguments.
        deadline: seconds until such a QEMU must be there.
        handler: who started it, kata or libvirt.
        pidfile: of the process that the launch started; only a QEMU that is or descends from it counts. None in records
            of vmtool 0.1 only, and then none counts.
    """

    name: str
    tee: str
    devices: tuple[str, ...]
    program: str
    kernel: str
    evidence: Path
    deadline: float = 10.0
    handler: str = "kata"
    pidfile: Path | None = None

    def shell(self) -> str:
        known = tee_of(self.tee)
        kind = known.qemu.object if known else self.tee
        # The whole of what runs goes to the evidence; the line itself looks for the TEE's object only.
        return (f"{lives(self.pidfile or Path('/dev/null'))} && "
                f"tr '\\0' ' ' < /proc/$pid/cmdline | grep -qE -e {shlex.quote(name_pattern(self.name))} && "
                f"{{ readlink /proc/$pid/exe; tr '\\0' '\\n' < /proc/$pid/cmdline; }} | "
                f"install -m 0600 /dev/stdin {shlex.quote(str(self.evidence))} && "
                f"grep -e {kind} {shlex.quote(str(self.evidence))}")

    def do(self, host: Host) -> None:
        process = self._await(host)
        host.write(self.evidence, f"{process.program}\n" + "\n".join(process.argv) + "\n")  # whatever they show
        kernels = {self.kernel, real_path(host, self.kernel)}
        claims = vm_claims(process.argv, self.tee, self.devices, kernels, opened_devices(host, process.pid))
        # `tee` itself no arguments prove: `vm.tee` is what they say of it.
        failed = [f"{claim.id}: {claim.evidence}" for claim in claims
                  if claim.verdict != "proven" and claim.id != "tee"]
        if self.program and process.program != real_path(host, self.program):
            failed.append(f"vm.program: {process.program or 'unknown'} runs, not {self.program}")
        if failed:
            raise VerificationFailed(f"{self.name}: the guest that runs is not what was asked for", details=failed,
                                     hint=f"vmtool doctor --for {self.handler} --tee {self.tee}")

    def _await(self, host: Host) -> QemuProcess:
        """The one QEMU of this launch and name."""
        end, found = host.now() + self.deadline, tuple[QemuProcess, ...]()
        while True:
            if launched := host.living(self.pidfile) if self.pidfile else None:
                found = read_qemu(host, self.name, launched)
            # Two for a moment: a QEMU that starts a program of its own is there twice until that is in its place.
            if len(found) == 1 or host.now() >= end:
                break
            host.sleep(0.1)
        if len(found) != 1:
            raise VerificationFailed(f"{self.name}: {len(found) or 'no'} QEMU processes of this launch have this name, "
                                     "so it is not known what runs", hint="ps -ef | grep qemu")
        return found[0]


@dataclass(frozen=True)
class KillQemu(Action):
    """End a QEMU that outlived its shim, and wait until it is gone: before that no device of it may be released.

    Args:
        name: that QEMU was started with; program: the file that it runs. Both must fit.
        deadline: seconds after SIGKILL; QEMU unpins the guest's memory first.
    """

    name: str
    program: str
    deadline: float = 60.0

    def shell(self) -> str:
        # The kernel names the file that runs, of which only the real path is known to it, also after an update of QEMU.
        # The arguments are gone while what was open is still being closed: it is the process that is waited for.
        runs = "$(readlink /proc/$pid/exe | sed 's/ (deleted)$//')"
        return (f"for pid in $(pgrep -f -- {shlex.quote(name_pattern(self.name))}); do "
                f'[ "{runs}" != "$(readlink -m {shlex.quote(self.program)})" ] || ! kill -KILL $pid || '
                f"timeout {self.deadline:g} sh -c \"while grep -qs '^State:.[^ZX]' /proc/$pid/status; "
                'do sleep 0.1; done"; done')

    def do(self, host: Host) -> None:
        program = real_path(host, self.program)
        found = {process.pid: host.start_time(process.pid) for process in read_qemu(host, self.name)
                 if process.program == program}
        for pid, started in found.items():
            # A pid can be taken by another process since then; the pair cannot.
            if started and host.start_time(pid) == started:
                host.kill(pid, signal.SIGKILL)
        end = host.now() + self.deadline
        while left := [pid for pid, started in found.items() if started and host.start_time(pid) == started]:
            if host.now() > end:
                raise VmtoolError(f"QEMU (pid {left[0]}) of {self.name} survives SIGKILL and still holds its devices",
                                  hint="look at dmesg; it may hang in the kernel until a reboot")
            host.sleep(0.05)
