"""KVM, judged by running a guest: the presence of /dev/kvm proves nothing."""

from __future__ import annotations

from typing import Any, Literal

from vmtool.facts.cpu import CpuFacts
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.isolation import python
from vmtool.machine import Reader

# Verdicts: a guest runs at the processor's speed; it runs hundreds of times slower or under a hypervisor that cannot
# run ordinary guests; /dev/kvm opens and no guest runs; there is no /dev/kvm; nobody could or wanted to look.
KvmVerdict = Literal["runs", "emulated-only", "opens-but-does-not-run", "absent", "not-checked"]
PROBE = python("-m", "vmtool.facts.kvm_probe")
# The same interpreter doing nothing.
CONTROL = python("-c", "pass")
# Seconds, for a probe that hangs: a busy machine may take some to start a child.
DEADLINE = 30.0
# Seconds for 20,000 guest instructions: far under 0.0001 on hardware, 0.011 to 0.015 under pvm.
SLOW = 0.003


@dataclass(frozen=True)
class KvmFacts:
    """What /dev/kvm is good for.

    Args:
        verdict: see `KvmVerdict`.
        evidence: what was seen, a line each.
        seconds: time of the guest's instructions; None when none ran.
        virtcca_extension: answer to KVM_CHECK_EXTENSION(300); None when it was not asked.
        vhost_vsock, vhost_net: whether /dev/vhost-vsock and /dev/vhost-net exist (Kata needs the first to load).
    """

    verdict: KvmVerdict
    evidence: tuple[str, ...]
    seconds: float | None = None
    virtcca_extension: int | None = None
    vhost_vsock: bool = False
    vhost_net: bool = False


def read_kvm(reader: Reader, cpu: CpuFacts, probe: bool = True) -> KvmFacts:
    """Look at KVM; with `probe`, start a child that runs a guest (at most `DEADLINE` seconds)."""
    seen = _probe(reader) if probe else None
    verdict, evidence = judge(seen, probe, reader.exists("/dev/kvm"), signs(reader, cpu))
    return KvmFacts(verdict, evidence, seen.get("seconds") if seen else None,
                    seen.get("virtcca_extension") if seen else None,
                    reader.exists("/dev/vhost-vsock"), reader.exists("/dev/vhost-net"))


def signs(reader: Reader, cpu: CpuFacts) -> tuple[str, ...]:
    """Signs that ordinary guests do not run at full speed here, whatever the probe's guest does."""
    found = []
    if reader.exists("/sys/module/kvm_pvm"):
        found.append("/sys/module/kvm_pvm: the hypervisor below emulates; ordinary guests fail or hang")
    if cpu.is_x86 and not cpu.virtualization:
        found.append("no vmx or svm flag in /proc/cpuinfo")
    return tuple(found)


def judge(seen: dict[str, Any] | None, probed: bool, present: bool, against: tuple[str, ...]) -> tuple[
        KvmVerdict, tuple[str, ...]]:
    """The verdict on a probe's answer (None: no answer in time), with the signs `against`."""
    if not present:
        return "absent", ("no /dev/kvm", *against)
    if not probed:
        return "not-checked", ("the probe was not asked for", *against)
    if seen is None:
        return "opens-but-does-not-run", (f"the probe did not end within {DEADLINE:.0f} s", *against)
    if seen.get("stage") == "open":
        # Permission, say: whether guests run is simply not known.
        return "not-checked", (f"could not ask /dev/kvm: {seen.get('error')}", *against)
    if "error" in seen:
        return "opens-but-does-not-run", (f"{seen['stage']}: {seen['error']}", *against)
    if "guest" not in seen:
        return "not-checked", (f"no probe guest is written for {seen.get('machine')}; a VM could be created", *against)
    return _judge_guest(seen, against)


def _judge_guest(seen: dict[str, Any], against: tuple[str, ...]) -> tuple[KvmVerdict, tuple[str, ...]]:
    if seen["guest"] != "halted":
        return "opens-but-does-not-run", (f"the guest ended with: {seen['guest']}", *against)
    speed = f"{seen['instructions']} guest instructions took {seen['seconds'] * 1000:.3g} ms"
    return ("emulated-only" if against or seen["seconds"] > SLOW else "runs"), (speed, *against)


def _probe(reader: Reader) -> dict[str, Any] | None:
    """The probe's answer; None when it hung. What keeps the child itself from starting says nothing about KVM."""
    output = reader.run(PROBE, deadline=DEADLINE)
    if output is None:
        return None if reader.run(CONTROL) else {"stage": "open", "error": "a child could not be started"}
    try:
        seen = parse_json(output.out)
    except ValueError:
        seen = None
    if isinstance(seen, dict):
        return seen
    if output.status < 0:
        return {"stage": "run", "error": f"the probe died of signal {-output.status}"}
    return {"stage": "open", "error": f"the probe failed: {output.err.strip()[-200:] or output.status}"}
