"""A trusted execution environment: what it is called, needs and shows. Each has a file of its own beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vmtool.architecture import Architecture
from vmtool.frozen import dataclass

if TYPE_CHECKING:
    from vmtool.facts.cpu import CpuFacts
    from vmtool.facts.kvm import KvmFacts
    from vmtool.machine import Reader


@dataclass(frozen=True)
class TeeSupport:
    """Whether the host can give it to guests.

    Args:
        available: True or False; None when this could not be looked at.
        evidence: what was seen, a line each.
    """

    available: bool | None
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class KernelNeeds:
    """What the host's kernel must be for it, beside having it.

    Args:
        cmdline: parameters that must be on its command line.
        branch: the one that its patches are known for, whose releases start with `release`.
        page_size: bytes; `page_option` is the option that gives it.
    """

    cmdline: tuple[tuple[str, str], ...]
    branch: str
    release: str
    page_size: int
    page_option: str


@dataclass(frozen=True)
class QemuTee:
    """How QEMU is started with it.

    Args:
        object: the type of its -object.
        kvm_type: the machine's kvm-type; empty where the machine names the object as its confidential-guest-support.
        debugging: the object's property with the bits `debug_bits`, which let the host debug the guest, and so read it;
            `unset` is what it is without the property.
    """

    object: str
    kvm_type: str = ""
    debugging: str = ""
    unset: str = "0"
    debug_bits: int = 0

    @property
    def typical(self) -> str:
        """What shows it in QEMU's arguments."""
        return f"kvm-type={self.kvm_type} and -object {self.object}" if self.kvm_type else f"-object {self.object}"


@dataclass(frozen=True)
class KataTee:
    """How Kata has it.

    Args:
        release: that it is most often run with.
        guest_word: that the guest's kernel must be given, with a swiotlb; empty for none.
        least_memory: bytes; most_devices: that are passed on; 0 for no bound of its own.
    """

    release: str
    guest_word: str = ""
    least_memory: int = 0
    most_devices: int = 0


@dataclass(frozen=True)
class LibvirtTee:
    """How a domain of libvirt's has it.

    Args:
        security: type of the launchSecurity element; `policy` and `kernel_hashes` are what it says besides.
        since: the first libvirt that knows that type (its NEWS); empty when its version does not tell.
        machine: QEMU's only machine type with it; empty for any.
        kernel_words: that the guest's kernel gets.
        private_memory: the guest's memory is a memfd, of which the host shares parts only.
        ioapic: driver of the I/O APIC; empty for the usual one.
        object: what QEMU gets beside the domain's description; machine_options: the same, of its machine; empty for
            nothing.
    """

    security: str
    policy: str = ""
    kernel_hashes: bool = False
    since: tuple[int, ...] = ()
    machine: str = ""
    kernel_words: tuple[str, ...] = ()
    private_memory: bool = False
    ioapic: str = ""
    object: str = ""
    machine_options: str = ""


@dataclass(frozen=True)
class Tee:
    """One TEE.

    Args:
        name: as specs and options have it; `title` is its maker's name for it.
        hint: how a host gets it.
        read_support: a look at the host.
        guest_node: what a guest in it has, as its kernel names it; `host_node` is the device in /dev that QEMU opens.
        cpu_flag: that such a guest shows in /proc/cpuinfo; empty for none.
        measures_firmware: the firmware is measured, and loads the kernel that QEMU hands it.
        measures_device_tree: the tree is measured that QEMU makes for the guest.
        needs_iommu: no guest starts without one.
        encrypts_gpu_link: a GPU with a confidential mode encrypts what goes over the bus.
        needs_patches: only patched programs know it; others boot an ordinary VM, and say nothing.
        kernel: what the host's kernel must be besides.
    """

    name: str
    title: str
    architecture: Architecture
    hint: str
    read_support: Callable[[Reader, CpuFacts, KvmFacts], TeeSupport]
    guest_node: str
    qemu: QemuTee
    kata: KataTee
    libvirt: LibvirtTee
    host_node: str = ""
    cpu_flag: str = ""
    measures_firmware: bool = False
    measures_device_tree: bool = False
    needs_iommu: bool = False
    encrypts_gpu_link: bool = False
    needs_patches: bool = False
    kernel: KernelNeeds | None = None


def read_module_parameter(reader: Reader, path: str, cpu: CpuFacts, vendor: str, flag: str) -> TeeSupport:
    """A TEE that its KVM module reports in a parameter (Kata decides by the same files)."""
    value = (reader.text(path) or "").strip()
    if value:
        return TeeSupport(value in ("Y", "1"), (f"{path} is {value}",))
    if cpu.vendor != vendor:
        return TeeSupport(False, (f"the processor's vendor is {cpu.vendor}, not {vendor}",))
    if cpu.virtualization != flag:
        return TeeSupport(False, (f"no {flag} flag in /proc/cpuinfo",))
    module = path.split("/parameters/")[0]
    if not reader.exists(module):
        return TeeSupport(None, (f"{module} is missing: the KVM module is not loaded",))
    return TeeSupport(False, (f"no {path}: this kernel's KVM does not know it",))
