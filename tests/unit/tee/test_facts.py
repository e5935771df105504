"""The TEEs: present, absent, and not to be seen are three answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from vmtool.facts.cpu import CpuFacts
from vmtool.facts.kvm import KvmFacts
from vmtool.tee.facts import read_tee
from vmtool.tee.snp import PARAMETER as SNP
from vmtool.tee.tdx import PARAMETER as TDX

INTEL = CpuFacts("x86_64", "GenuineIntel", None, 1, "vmx", False)
AMD = CpuFacts("x86_64", "AuthenticAMD", None, 1, "svm", False)
KUNPENG = CpuFacts("aarch64", "HiSilicon", None, 1, None, False)
NO_KVM = KvmFacts("not-checked", ())


def kvm(answer: int | None) -> KvmFacts:
    return KvmFacts("not-checked", (), virtcca_extension=answer)


@pytest.mark.parametrize(("name", "path", "cpu", "data", "available", "evidence"), [
    ("tdx", TDX, INTEL, {"texts": {TDX: "Y\n"}}, True, f"{TDX} is Y"),
    ("tdx", TDX, INTEL, {"texts": {TDX: "N\n"}}, False, f"{TDX} is N"),
    ("tdx", TDX, INTEL, {"exists": ["/sys/module/kvm_intel"]}, False, "this kernel's KVM does not know it"),
    ("tdx", TDX, INTEL, {}, None, "the KVM module is not loaded"),
    ("tdx", TDX, AMD, {}, False, "not GenuineIntel"),
    ("snp", SNP, AMD, {"texts": {SNP: "1\n"}}, True, f"{SNP} is 1"),
    ("snp", SNP, AMD, {}, None, "the KVM module is not loaded"),
    ("snp", SNP, CpuFacts("x86_64", "AuthenticAMD", None, 1, None, True), {}, False, "no svm flag"),
    ("snp", SNP, KUNPENG, {}, False, "not AuthenticAMD"),
])
def test_module_parameter(name: str, path: str, cpu: CpuFacts, data: dict[str, Any], available: bool | None,
                          evidence: str) -> None:
    support = read_tee(Recorded(data), cpu, NO_KVM)[name]
    assert support.available is available
    assert evidence in "; ".join(support.evidence)


LOG = {"outputs": {"dmesg": {"out": "[    0.0] Booting Linux\n[    1.0] TMM feature0: 0x1\n"}}}


@pytest.mark.parametrize(("cpu", "answer", "data", "available", "evidence"), [
    (KUNPENG, 1, {}, True, "KVM_CHECK_EXTENSION(300) answers 1"),
    (KUNPENG, 0, {}, False, "KVM_CHECK_EXTENSION(300) answers 0"),
    # KVM's answer counts for more than the firmware's line.
    (KUNPENG, 0, LOG, False, "TMM feature0: 0x1"),
    (KUNPENG, None, LOG, True, "TMM feature0: 0x1"),
    (KUNPENG, None, {"texts": {"/sys/kernel/tmm/virtcca_enabled": "1\n"}}, None, "virtcca_enabled: 1"),
    (KUNPENG, None, {}, None, "KVM could not be asked"),
    (AMD, 1, LOG, False, "not an arm64 processor"),
])
def test_virtcca(cpu: CpuFacts, answer: int | None, data: dict[str, Any], available: bool | None,
                 evidence: str) -> None:
    support = read_tee(Recorded(data), cpu, kvm(answer))["virtcca"]
    assert support.available is available
    assert evidence in "; ".join(support.evidence)
