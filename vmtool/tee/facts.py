"""Which trusted execution environment the host can give to guests, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass

from vmtool.architecture import ARM64
from vmtool.facts.cpu import CpuFacts
from vmtool.facts.kvm import KvmFacts
from vmtool.machine import Reader

TDX = "/sys/module/kvm_intel/parameters/tdx"
SNP = "/sys/module/kvm_amd/parameters/sev_snp"
TMM = "/sys/kernel/tmm"


@dataclass(frozen=True)
class TeeSupport:
    """One TEE.

    Args:
        available: True or False; None when this could not be looked at.
        evidence: what was seen, a line each.
    """

    available: bool | None
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class TeeFacts:
    """Each TEE that vmtool knows."""

    virtcca: TeeSupport
    snp: TeeSupport
    tdx: TeeSupport


def read_tee(reader: Reader, cpu: CpuFacts, kvm: KvmFacts) -> TeeFacts:
    """Look for virtCCA, SEV-SNP and TDX."""
    return TeeFacts(virtcca=_virtcca(reader, cpu, kvm),
                    snp=_parameter(reader, SNP, _lacking(cpu, "AuthenticAMD", "svm")),
                    tdx=_parameter(reader, TDX, _lacking(cpu, "GenuineIntel", "vmx")))


def _lacking(cpu: CpuFacts, vendor: str, flag: str) -> str:
    """Why the processor cannot do it, or nothing."""
    if cpu.vendor != vendor:
        return f"the processor's vendor is {cpu.vendor}, not {vendor}"
    return "" if cpu.virtualization == flag else f"no {flag} flag in /proc/cpuinfo"


def _parameter(reader: Reader, path: str, lacking: str) -> TeeSupport:
    """A TEE that its KVM module reports in a parameter (Kata decides by the same files)."""
    value = (reader.text(path) or "").strip()
    if value:
        return TeeSupport(value in ("Y", "1"), (f"{path} is {value}",))
    if lacking:
        return TeeSupport(False, (lacking,))
    module = path.split("/parameters/")[0]
    if not reader.exists(module):
        return TeeSupport(None, (f"{module} is missing: the KVM module is not loaded",))
    return TeeSupport(False, (f"no {path}: this kernel's KVM does not know it",))


def _virtcca(reader: Reader, cpu: CpuFacts, kvm: KvmFacts) -> TeeSupport:
    """virtCCA: KVM's answer decides; the other signs are told, and decide only where KVM could not be asked.

    /sys/kernel/tmm exists on some kernels only, so its absence proves nothing.
    """
    if cpu.arch != ARM64.machine:
        return TeeSupport(False, ("not an arm64 processor",))
    signs = []
    for name in ("virtcca_enabled", "memory_info"):
        value = reader.text(f"{TMM}/{name}")
        if value is not None:
            signs.append(f"{TMM}/{name}: {' '.join(value.split())[:100]}")
    log = reader.run(("dmesg",))
    line = next((line for line in (log.out if log else "").splitlines() if "TMM feature0:" in line), None)
    if line:
        signs.append(f"dmesg: {line.strip()}")
    if kvm.virtcca_extension is not None:
        told = f"KVM_CHECK_EXTENSION(300) answers {kvm.virtcca_extension}"
        return TeeSupport(kvm.virtcca_extension == 1, (told, *signs))
    asked = "KVM could not be asked for extension 300"
    return TeeSupport(True if line else None, (asked, *signs))
