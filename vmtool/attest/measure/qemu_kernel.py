"""A kernel as QEMU hands it to the firmware (hw/i386, x86_load_linux; Linux, Documentation/arch/x86/boot.rst).

QEMU fills in the setup header as boot loaders do, and OVMF measures the image with it. The firmware gets the file as it
is from QEMU 10.0 and edk2 of 2025 on, in SEV always, and in every TEE from QEMU 10.2 on (a7542a38): both are the same
kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmtool.architecture import AMD64
from vmtool.attest.measure.guest import MeasuredGuest, NotComputed

# Fields of the setup header.
MAGIC, PROTOCOL, LOADER, LOADFLAGS, RAMDISK, HEAP_END, COMMAND_LINE, INITRD_MOST, XLOADFLAGS = (
    0x202, 0x206, 0x210, 0x211, 0x218, 0x224, 0x228, 0x22c, 0x236)
HEADER_END, OLDEST = 0x268, 0x20c
LOADED_HIGH, CAN_USE_HEAP, ANYWHERE = 0x01, 0x80, 0x02
QEMU_LOADER, REAL_MODE, COMMAND_LINE_AT = 0xb0, 0x10000, 0x20000
# What QEMU keeps for ACPI tables at the end of the memory below 4 GiB.
ACPI = 0x28000
# Type of machine -> from which size on its memory is split, and how much of it then lies below 4 GiB.
SPLITS = {"q35": (0xb0000000, 0x80000000), "pc": (0xe0000000, 0xc0000000)}
MACHINE = re.compile(r"pc-(q35|i440fx)-(?!1\.)")
# It appends a random seed to the kernel (removed in 7.2.1 and 8.0).
SEEDED = ("7.2", "7.2.0")


def kernel_forms(guest: MeasuredGuest) -> Iterator[bytes]:
    """As `handed_kernels`, of the guest's own files."""
    initrd = guest.known_initrd()
    return handed_kernels(guest, guest.known_kernel(), None if initrd is None else len(initrd))


def handed_kernels(guest: MeasuredGuest, kernel: bytes, initrd: int | None) -> Iterator[bytes]:
    """The kernel in each form in which a firmware may measure it.

    Args:
        initrd: bytes of it.

    Raises:
        NotComputed: what QEMU makes of it is not known.
    """
    if guest.architecture != AMD64.machine:
        raise NotComputed(f"what the firmware of {guest.architecture} measures was never tried")
    if guest.qemu in SEEDED:
        raise NotComputed(f"QEMU {guest.qemu} appends a random seed to the kernel: 7.2.1 and newer do not")
    if "vga=" in guest.known_cmdline():
        raise NotComputed("QEMU fills in the video mode of vga= on the command line")
    yield kernel
    yield _filled_in(kernel, initrd, _below_4g(guest))


def _filled_in(kernel: bytes, initrd: int | None, below: int) -> bytes:
    """The kernel with the setup header as QEMU fills it in."""
    made = bytearray(kernel)

    def number(place: int, size: int) -> int:
        return int.from_bytes(kernel[place:place + size], "little")

    def put(place: int, size: int, value: int) -> None:
        made[place:place + size] = value.to_bytes(size, "little")

    old = len(kernel) < HEADER_END or kernel[MAGIC:MAGIC + 4] != b"HdrS" or number(PROTOCOL, 2) < OLDEST
    if old or not kernel[LOADFLAGS] & LOADED_HIGH:
        raise NotComputed("the kernel is older than boot protocol 2.12 (Linux 3.8)")
    put(COMMAND_LINE, 4, COMMAND_LINE_AT)
    put(LOADER, 1, QEMU_LOADER)
    put(LOADFLAGS, 1, kernel[LOADFLAGS] | CAN_USE_HEAP)
    put(HEAP_END, 2, COMMAND_LINE_AT - REAL_MODE - 0x200)
    if initrd is not None:
        limit = 0xffffffff if number(XLOADFLAGS, 2) & ANYWHERE else number(INITRD_MOST, 4)
        most = min(limit, below - ACPI - 1)
        if initrd >= most:
            raise NotComputed(f"an initrd of {initrd} bytes does not fit into the guest's memory")
        put(RAMDISK, 4, (most - initrd) & ~0xfff)
        put(RAMDISK + 4, 4, initrd)
    return bytes(made)


def _below_4g(guest: MeasuredGuest) -> int:
    """How much of the guest's memory lies below 4 GiB."""
    found = MACHINE.match(guest.machine)
    board = guest.machine if guest.machine in SPLITS else {"q35": "q35", "i440fx": "pc"}[found[1]] if found else ""
    if not board:
        raise NotComputed(f"where QEMU's machine {guest.machine} has its memory is not known")
    split, below = SPLITS[board]
    return below if guest.given_memory >= split else guest.given_memory
