"""Findings on the trusted execution environment that was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.doctor.host import HostFacts
from vmtool.findings import Finding, Level, Tee, finding

TITLES = {"virtcca": "virtCCA", "snp": "AMD SEV-SNP", "tdx": "Intel TDX"}
HINTS = {
    "virtcca": "use a Kunpeng host with TMM firmware and an OLK-6.6 kernel, booted with virtcca_cvm_host=1",
    "snp": "turn on SME, SEV-SNP and the IOMMU in the firmware and boot a kernel 6.11 or newer with "
           "kvm_amd.sev_snp=1 (modprobe kvm_amd; dmesg | grep -i sev-snp tells why not)",
    "tdx": "turn on TDX in the firmware and boot a kernel 6.16 or newer with kvm_intel.tdx=1 "
           "(modprobe kvm_intel tdx=1; dmesg | grep -i tdx tells why not)",
}
# What the public virtCCA guide has on the host's command line.
VIRTCCA_CMDLINE = (("virtcca_cvm_host", "1"), ("arm_smmu_v3.disable_ecmdq", "1"), ("vfio_pci.disable_idle_d3", "1"))
VIRTCCA_KERNEL = "6.6"


def confidential_findings(facts: HostFacts, tee: Tee) -> Iterator[Finding]:
    """Whether the host can start guests in this TEE; what a guest really gets is proven after its launch."""
    if tee == "none":
        return
    support = {"virtcca": facts.tee.virtcca, "snp": facts.tee.snp, "tdx": facts.tee.tdx}[tee]
    level: Level = "not-checked" if support.available is None else "ok" if support.available else "fail"
    hint = HINTS[tee]
    if level == "not-checked" and not facts.is_root:
        hint = "run as root: sudo vmtool doctor"
    elif facts.cpu.in_guest:
        hint = "use a bare machine: this host is itself a virtual machine"
    yield finding(f"tee.{tee}", TITLES[tee], level, "; ".join(support.evidence), hint)
    if tee == "virtcca":
        yield from _virtcca_host(facts)


def _virtcca_host(facts: HostFacts) -> Iterator[Finding]:
    kernel = facts.kernel
    size = kernel.page_size
    yield finding("kernel.page-size", "page size", "not-checked" if size is None else "ok" if size == 4096 else "fail",
                  "getconf could not be asked" if size is None else f"{size} bytes",
                  "getconf PAGESIZE" if size is None else "boot a kernel with CONFIG_ARM64_4K_PAGES")
    lacking = [f"{name}={value}" for name, value in VIRTCCA_CMDLINE if kernel.parameter(name) != value]
    yield finding("kernel.cmdline.virtcca", "kernel command line", "fail" if lacking else "ok",
                  f"missing: {' '.join(lacking)}" if lacking else
                  " ".join(f"{name}={value}" for name, value in VIRTCCA_CMDLINE),
                  f"add to the kernel command line and reboot: {' '.join(lacking)}")
    fits = kernel.release.startswith(f"{VIRTCCA_KERNEL}.")
    yield finding("kernel.release", "kernel release", "ok" if fits else "warn", kernel.release or "unknown",
                  f"virtCCA's patches are known for the OLK-{VIRTCCA_KERNEL} branch: boot one of its kernels")
