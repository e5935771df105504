"""QEMU and libvirt: what boots a guest image without containerd."""

from __future__ import annotations

from vmtool.facts.kernel import read_kernel
from vmtool.facts.versions import read_version
from vmtool.frozen import dataclass
from vmtool.machine import Reader

SOCKET = "/run/libvirt/libvirt-sock"
# The first with <driver iommufd='yes'/> (formatdomain), and with -object iommufd and devices by descriptor.
IOMMUFD_LIBVIRT, IOMMUFD_QEMU = (12, 1), (9, 0)
VERSION = r"\b(\d+\.\d+(?:\.\d+)?)\b"
# Distributions of the RPM family install QEMU outside of PATH.
KVM_PROGRAM = "/usr/libexec/qemu-kvm"


@dataclass(frozen=True)
class HypervisorFacts:
    """QEMU and libvirt.

    Args:
        qemu: absolute path of the emulator for this architecture; None when not installed.
        qemu_version, libvirt_version: such as "7.2.17"; None when unknown.
        virsh: absolute path; None when not installed.
        socket: whether libvirt's system socket exists (qemu:///system); its absence leaves session and embed.
    """

    qemu: str | None
    qemu_version: str | None
    virsh: str | None
    libvirt_version: str | None
    socket: bool


def read_hypervisor(reader: Reader, arch: str, *, versions: bool = True) -> HypervisorFacts:
    """Look for the programs and, when `versions`, ask theirs: QEMU takes longer to say it than all else of a host."""
    qemu = reader.which(f"qemu-system-{arch}") or (KVM_PROGRAM if reader.exists(KVM_PROGRAM) else None)
    virsh = reader.which("virsh")
    asked = [read_version(reader, program, VERSION) if versions else None for program in (qemu, virsh)]
    return HypervisorFacts(qemu, asked[0], virsh, asked[1], reader.exists(SOCKET))


def has_iommufd(reader: Reader, hypervisor: HypervisorFacts) -> bool:
    """Whether libvirt can pass devices on by iommufd, which has no limit of mappings as legacy VFIO does.

    It takes /dev/iommu, devices' own nodes (CONFIG_VFIO_DEVICE_CDEV; taken to be there where the configuration does not
    show), and a QEMU and a libvirt that know it.
    """
    if numbers(hypervisor.libvirt_version) < IOMMUFD_LIBVIRT or numbers(hypervisor.qemu_version) < IOMMUFD_QEMU:
        return False
    return reader.exists("/dev/iommu") and read_kernel(reader).config.get("VFIO_DEVICE_CDEV", "y") != "n"


def numbers(version: str | None) -> tuple[int, ...]:
    """The first two numbers of a version; none of one that is unknown."""
    return tuple(int(part) for part in (version or "").split(".")[:2] if part.isdecimal())
