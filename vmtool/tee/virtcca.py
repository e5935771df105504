"""virtCCA: confidential guests on Kunpeng, by the TMM in its firmware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtool.architecture import ARM64
from vmtool.tee.tee import KataTee, KernelNeeds, LibvirtTee, QemuTee, Tee, TeeSupport

if TYPE_CHECKING:
    from vmtool.facts.cpu import CpuFacts
    from vmtool.facts.kvm import KvmFacts
    from vmtool.machine import Reader

TMM = "/sys/kernel/tmm"
GUEST_WORD = "virtcca_cvm_guest=1"
# Of its vCPUs; both are measured.
SVE_BITS, PMU_COUNTERS = 128, 1


def read_virtcca(reader: Reader, cpu: CpuFacts, kvm: KvmFacts) -> TeeSupport:
    """KVM's answer decides; the other signs are reported, and decide only where KVM could not be asked.

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
        reported = f"KVM_CHECK_EXTENSION(300) answers {kvm.virtcca_extension}"
        return TeeSupport(kvm.virtcca_extension == 1, (reported, *signs))
    asked = "KVM could not be asked for extension 300"
    return TeeSupport(True if line else None, (asked, *signs))


VIRTCCA = Tee(
    "virtcca", "virtCCA", ARM64,
    "use a Kunpeng host with TMM firmware and an OLK-6.6 kernel, booted with virtcca_cvm_host=1",
    read_virtcca, "/dev/tsi",
    QemuTee("tmm-guest", kvm_type="cvm"),
    # Of its 16 root ports the network and the root disk take two.
    KataTee("3.15-virtcca", guest_word=GUEST_WORD, least_memory=1 << 30, most_devices=14),
    # Its type is in openEuler's patched libvirt only, and its QEMU has it in this version of the machine only. The
    # words are the virtCCA guide's.
    LibvirtTee("cvm", machine="virt-8.2",
               object=f"tmm-guest,id=tmm0,sve-vector-length={SVE_BITS},num-pmu-counters={PMU_COUNTERS}",
               # Random seeds in the device tree would make each start another measurement.
               machine_options="dtb-randomness=off",
               kernel_words=("swiotlb=262144,force", "cma=64M", GUEST_WORD, "cvm_guest=1", "kaslr.disabled=1")),
    measures_device_tree=True, needs_iommu=True, needs_patches=True,
    # The command line is the public virtCCA guide's.
    kernel=KernelNeeds(
        (("virtcca_cvm_host", "1"), ("arm_smmu_v3.disable_ecmdq", "1"), ("vfio_pci.disable_idle_d3", "1")),
        "OLK-6.6", "6.6", 4096, "CONFIG_ARM64_4K_PAGES"))
