"""The processor architectures that vmtool knows, and what each is called where."""

from __future__ import annotations

from typing import Literal

from vmtool.frozen import dataclass

# As Debian, Go and OCI name them, and so recipes and manifests of images do.
DebianName = Literal["amd64", "arm64"]


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Args:
        machine: as `uname -m`, QEMU, RPM and Python's wheels name it.
        debian: as Debian, Go and OCI name it.
        triplet, loader: Debian's directory of its libraries, and the file of its dynamic loader.
        board: QEMU's machine type; `boot_board` with the options to boot an image (`virt` has GICv2 by default).
        emulated_cpu: QEMU's processor model without KVM. pauth-impdef is pointer authentication that takes no AES.
        console: the kernel's name of the first serial port.
        qemu: Debian's package with QEMU; `boards_firmware` are the packages with what its board starts with.
        guest_kernel: Debian's package with a kernel for virtual machines.
    """

    machine: str
    debian: DebianName
    triplet: str
    loader: str
    board: str
    boot_board: str
    emulated_cpu: str
    console: str
    qemu: str
    boards_firmware: tuple[str, ...]
    guest_kernel: str


AMD64 = Architecture("x86_64", "amd64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2", "q35", "q35", "max", "ttyS0",
                     "qemu-system-x86", ("seabios",), "linux-image-cloud-amd64")
ARM64 = Architecture("aarch64", "arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1", "virt", "virt,gic-version=3",
                     "max,pauth-impdef=on", "ttyAMA0", "qemu-system-arm", (), "linux-image-cloud-arm64")
KNOWN = (AMD64, ARM64)
BY_MACHINE = {each.machine: each for each in KNOWN}
BY_DEBIAN: dict[str, Architecture] = {each.debian: each for each in KNOWN}


def architecture_of(machine: str) -> Architecture:
    """The architecture of `uname -m`'s name; amd64 for a name that is unknown or empty."""
    return BY_MACHINE.get(machine, AMD64)
