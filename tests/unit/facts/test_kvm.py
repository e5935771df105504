"""KVM's verdict: what the probe said, and the signs that speak against it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from vmtool.facts.cpu import CpuFacts
from vmtool.facts.kvm import read_kvm

CPU = CpuFacts("x86_64", "GenuineIntel", "Xeon", 8, "vmx", False)
PROBE = "python -I -m vmtool.facts.kvm_probe"
RAN = {"stage": "run", "machine": "x86_64", "api": 12, "virtcca_extension": 0, "guest": "halted", "seconds": 0.0001,
       "instructions": 200002}


def host(seen: dict[str, Any] | str | None, *exists: str) -> Recorded:
    text = seen if isinstance(seen, str) else json.dumps(seen)
    return Recorded({"exists": ["/dev/kvm", *exists], "outputs": {PROBE: {"out": text}} if seen is not None else {}})


@pytest.mark.parametrize(("seen", "exists", "cpu", "verdict", "evidence"), [
    (RAN, (), CPU, "runs", "200002 guest instructions took 0.1 ms"),
    ({**RAN, "seconds": 0.14}, (), CPU, "emulated-only", "took 140 ms"),
    (RAN, ("/sys/module/kvm_pvm",), CPU, "emulated-only", "/sys/module/kvm_pvm"),
    (RAN, (), dataclasses.replace(CPU, virtualization=None), "emulated-only", "no vmx or svm flag"),
    ({**RAN, "guest": "failed entry"}, (), CPU, "opens-but-does-not-run", "the guest ended with: failed entry"),
    ({"stage": "create", "error": "[Errno 22] Invalid argument"}, (), CPU, "opens-but-does-not-run",
     "create: [Errno 22]"),
    ({"stage": "run", "error": "the guest did not halt within 3 s"}, (), CPU, "opens-but-does-not-run", "did not halt"),
    ("", (), CPU, "not-checked", "the probe failed: 0"),
    ("[1]", (), CPU, "not-checked", "the probe failed: 0"),
    ({"stage": "open", "error": "[Errno 13] Permission denied"}, (), CPU, "not-checked",
     "could not ask /dev/kvm: [Errno 13]"),
    ({"stage": "run", "machine": "aarch64", "api": 12, "virtcca_extension": 1}, (),
     CpuFacts("aarch64", "HiSilicon", None, 8, None, False), "not-checked", "no probe guest is written for aarch64"),
])
def test_verdict(seen: Any, exists: tuple[str, ...], cpu: CpuFacts, verdict: str, evidence: str) -> None:
    facts = read_kvm(host(seen, *exists), cpu)
    assert facts.verdict == verdict
    assert evidence in "; ".join(facts.evidence)


@pytest.mark.parametrize(("outputs", "verdict", "evidence"), [
    ({"python -I -c pass": {}}, "opens-but-does-not-run", "the probe did not end within 30 s"),
    ({}, "not-checked", "a child could not be started"),
    ({PROBE: {"status": -11}}, "opens-but-does-not-run", "run: the probe died of signal 11"),
    ({PROBE: {"status": 1, "err": "No module named vmtool\n"}}, "not-checked", "No module named vmtool"),
], ids=["hangs", "no child at all", "killed by its ioctl", "fails before it looks"])
def test_probe_without_an_answer(outputs: dict[str, Any], verdict: str, evidence: str) -> None:
    facts = read_kvm(Recorded({"exists": ["/dev/kvm"], "outputs": outputs}), CPU)
    assert (facts.verdict, facts.seconds) == (verdict, None)
    assert evidence in facts.evidence[0]


def test_no_device_is_absent_whatever_the_processor_says() -> None:
    facts = read_kvm(Recorded({}), CPU)
    assert (facts.verdict, facts.evidence, facts.seconds) == ("absent", ("no /dev/kvm",), None)


def test_without_the_probe_nothing_is_claimed() -> None:
    facts = read_kvm(host(RAN, "/dev/vhost-vsock"), CPU, probe=False)
    assert (facts.verdict, facts.seconds, facts.virtcca_extension) == ("not-checked", None, None)
    assert (facts.vhost_vsock, facts.vhost_net) == (True, False)
