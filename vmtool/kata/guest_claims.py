"""What the container in a guest of Kata's says of the guest, asked through `ctr task exec`.

It is a guest's own word: whoever made another guest can have it say the same, so it never proves a TEE. It can still
contradict the request, and then the claim has failed. A container sees /proc of its guest, but neither the guest's /dev
nor its kernel's log nor its root file system: what it cannot see is not checked.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vmtool.claims import WORD, Claim
from vmtool.containerd.container import exec_argv
from vmtool.instance.instance import InstanceRecord, Paths
from vmtool.machine import Output, Reader
from vmtool.proof.hardening import judge_status
from vmtool.qemu.claims import UNVERIFIED
from vmtool.qemu.proof import cmdline_claim
from vmtool.tee.table import BY_NAME

# Each line comes back behind its file's name; of /proc/cpuinfo the first processor is enough.
FILES = ("/proc/cmdline", "/proc/cpuinfo", "/proc/misc", "/proc/devices", "/proc/1/status",
         "/proc/driver/nvidia/version")
SECONDS = 30.0
TRACE = "/run/vmtool/hook.trace"
NOT_ASKED = "the guest was not asked; with --proof it is"
_numbers = itertools.count(1)

View = Mapping[str, list[str]]


def not_asked(record: InstanceRecord) -> tuple[Claim, ...]:
    """The same claims, when nobody asks."""
    names = ("guest.tee", "guest.cmdline", "process.hardening",
             *(("gpu.in-container", "gpu.cc-status") if record.devices else ()))
    return tuple(Claim(name, "not-checked", NOT_ASKED) for name in names)


def view_claims(reader: Reader, record: InstanceRecord, commandline: str) -> Iterator[Claim]:
    """Ask, and hold the answers against the request.

    Args:
        commandline: of the guest's kernel, as QEMU was given it; empty when that is unknown.
    """
    view = parse_view(_exec(reader, record, "grep", "-H", "-m", "200", "", *FILES))
    if not view:
        for name in ("guest.tee", "guest.cmdline", "process.hardening"):
            yield Claim(name, "not-checked", f"the container did not answer within {SECONDS:.0f} s, or has no grep")
    else:
        yield _tee(view, record)
        yield cmdline_claim(" ".join(" ".join(view.get("/proc/cmdline", ())).split()), commandline)
        yield _hardening(view)
    if record.devices:
        yield _gpus(reader, record, view)
        yield _confidential_gpu(reader, record)
        yield Claim("guest.hook", "not-checked", f"its trace is the guest's {TRACE}, which no container sees; what it "
                                                 "does shows in gpu.in-container")


def hardening_claim(reader: Reader, record: InstanceRecord) -> Claim:
    """Ask for the workload's first process only."""
    return _hardening(parse_view(_exec(reader, record, "grep", "-H", "-m", "200", "", "/proc/1/status")))


def parse_view(answer: Output | None) -> View:
    """Lines by file; a file that is absent is missing."""
    view: dict[str, list[str]] = {}
    for line in answer.out.splitlines() if answer else ():
        path, colon, text = line.partition(":")
        if colon and path in FILES:
            view.setdefault(path, []).append(text)
    return view


def _exec(reader: Reader, record: InstanceRecord, *words: str) -> Output | None:
    # A container takes no two processes of one name at once, also of two vmtools.
    name = f"vmtool-look-{os.getpid()}-{next(_numbers)}"
    fifos = Paths(Path(record.result).parent.parent).fifos
    return reader.run(exec_argv(record.endpoint, name, fifos, record.unit, *words), deadline=SECONDS)


def _tee(view: View, record: InstanceRecord) -> Claim:
    """The kernel names its TEE's device in /proc/misc or /proc/devices; some show in the processor's flags."""
    listed = {word for path in ("/proc/misc", "/proc/devices") for line in view.get(path, ()) for word in line.split()}
    flags = next((line for line in view.get("/proc/cpuinfo", ()) if line.startswith("flags")), "")
    seen = [tee.guest_node for tee in BY_NAME.values() if tee.guest_node.rpartition("/")[2] in listed]
    seen += [f"the flag {tee.cpu_flag}" for tee in BY_NAME.values() if tee.cpu_flag in flags.split()]
    shown = f"{WORD}{', '.join(seen) or 'no sign of a TEE'}"
    if not record.confidential:
        return Claim("guest.tee", "not-checked", f"none was asked for; {shown}")
    wanted = BY_NAME[record.tee].cpu_flag
    if wanted and flags and wanted not in flags.split():
        return Claim("guest.tee", "failed", f"{shown}: its processor lacks the flag {wanted}")
    return Claim("guest.tee", "not-checked", f"{shown}; {UNVERIFIED}")


def _hardening(view: View) -> Claim:
    """/proc/PID/status of the workload's first process (proc(5))."""
    status = dict(line.split(":\t", 1) for line in view.get("/proc/1/status", ()) if ":\t" in line)
    if not status:
        return Claim("process.hardening", "not-checked", f"{WORD}nothing of its first process")
    verdict, shown = judge_status(status)
    return Claim("process.hardening", verdict, WORD + shown)


def _gpus(reader: Reader, record: InstanceRecord, view: View) -> Claim:
    """Whether the container has them: Kata's agent only logs a hook that fails, and starts the container anyway."""
    listed = _exec(reader, record, "nvidia-smi", "-L")
    if listed is None or listed.status:
        why = "did not answer" if listed is None else f"ended with {listed.status}: {listed.err.strip()[-100:]}"
        return Claim("gpu.in-container", "not-checked" if listed is None else "failed", f"nvidia-smi -L {why}")
    found = sum(line.startswith("GPU ") for line in listed.out.splitlines())
    driver = re.search(r"\d+\.\d+(\.\d+)?", " ".join(view.get("/proc/driver/nvidia/version", ())))
    return Claim("gpu.in-container", "proven" if found else "failed",
                 f"{WORD}nvidia-smi -L lists {found} for {len(record.devices)} passed devices"
                 + (f", driver {driver[0]}" if driver else ""))


def _confidential_gpu(reader: Reader, record: InstanceRecord) -> Claim:
    """Whether the link to the GPU is encrypted. A100 and L20 have no such mode, and virtCCA knows no other."""
    asked = _exec(reader, record, "nvidia-smi", "conf-compute", "-f")
    heard = "; ".join(asked.out.split("\n")).strip("; ") if asked and asked.status == 0 else ""
    if not heard:
        return Claim("gpu.cc-status", "not-checked", "nvidia-smi conf-compute -f did not answer")
    off = re.search(r"CC status:\s*OFF", heard, re.IGNORECASE)
    if off and record.confidential and BY_NAME[record.tee].encrypts_gpu_link:
        return Claim("gpu.cc-status", "failed", f"{WORD}{heard}: what goes to the GPU is not encrypted")
    return Claim("gpu.cc-status", "not-checked", f"{WORD}{heard}; only the GPU's attestation could prove it")
