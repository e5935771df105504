"""Intel TDX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtool.architecture import AMD64
from vmtool.tee.tee import KataTee, LibvirtTee, QemuTee, Tee, TeeSupport, read_module_parameter

if TYPE_CHECKING:
    from vmtool.facts.cpu import CpuFacts
    from vmtool.facts.kvm import KvmFacts
    from vmtool.machine import Reader

PARAMETER = "/sys/module/kvm_intel/parameters/tdx"


def read_tdx(reader: Reader, cpu: CpuFacts, kvm: KvmFacts) -> TeeSupport:
    """As kvm_intel reports it."""
    return read_module_parameter(reader, PARAMETER, cpu, "GenuineIntel", "vmx")


TDX = Tee(
    "tdx", "Intel TDX", AMD64,
    "turn on TDX in the firmware and boot a kernel 6.16 or newer with kvm_intel.tdx=1 "
    "(modprobe kvm_intel tdx=1; dmesg | grep -i tdx shows why not)",
    read_tdx, "/dev/tdx_guest",
    # ATTRIBUTES of Intel's TDX module: bit 0 is DEBUG.
    QemuTee("tdx-guest", debugging="attributes", debug_bits=1),
    KataTee("4.1"),
    LibvirtTee("tdx", policy="0x10000000", since=(11, 6), private_memory=True, ioapic="qemu"),
    cpu_flag="tdx_guest", measures_firmware=True, encrypts_gpu_link=True)
