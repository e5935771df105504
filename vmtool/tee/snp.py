"""AMD SEV-SNP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtool.architecture import AMD64
from vmtool.tee.tee import KataTee, LibvirtTee, QemuTee, Tee, TeeSupport, read_module_parameter

if TYPE_CHECKING:
    from vmtool.facts.cpu import CpuFacts
    from vmtool.facts.kvm import KvmFacts
    from vmtool.machine import Reader

PARAMETER = "/sys/module/kvm_amd/parameters/sev_snp"


def read_snp(reader: Reader, cpu: CpuFacts, kvm: KvmFacts) -> TeeSupport:
    """As kvm_amd reports it."""
    return read_module_parameter(reader, PARAMETER, cpu, "AuthenticAMD", "svm")


SNP = Tee(
    "snp", "AMD SEV-SNP", AMD64,
    "turn on SME, SEV-SNP and the IOMMU in the firmware and boot a kernel 6.11 or newer with kvm_amd.sev_snp=1 "
    "(modprobe kvm_amd; dmesg | grep -i sev-snp shows why not)",
    read_snp, "/dev/sev-guest",
    # Guest policy of AMD's SEV-SNP ABI, table 8: bit 19 allows debugging.
    QemuTee("sev-snp-guest", debugging="policy", unset="0x30000", debug_bits=1 << 19),
    KataTee("4.1"),
    LibvirtTee("sev-snp", policy="0x00030000", kernel_hashes=True, since=(10, 5), private_memory=True),
    host_node="sev", measures_firmware=True, needs_iommu=True, encrypts_gpu_link=True)
