"""What OVMF and Linux's EFI stub measure when the firmware starts a kernel that QEMU hands it.

edk2: DxeTpm2MeasureBootLib and Tcg2Dxe, or their counterparts for TDX; Linux: drivers/firmware/efi/libstub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vmtool.attest.measure.authenticode import measured_parts

Hash = Callable[[bytes], Any]
CALLING, SEPARATOR = b"Calling EFI Application from Boot Option", bytes(4)
# In a TD measured into the kernel's register, in a TPM into register 5.
LEAVING = b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success"
# OVMF's own word, by which the stub asks it for the initrd.
INITRD_WORD = " initrd=initrd"


def load_options(cmdline: str, *, initrd: bool) -> bytes:
    """The command line as the firmware gives it to the kernel: UTF-16, with the last zero."""
    return f"{cmdline}{INITRD_WORD if initrd else ''}\0".encode("utf-16-le")


def stub_events(cmdline: str, initrd: bytes | None) -> tuple[bytes, ...]:
    """What the stub measures, in its order: into register 9 of a TPM (Linux 5.17), else into RTMR2 (6.9)."""
    options = load_options(cmdline, initrd=initrd is not None)
    return (options,) if initrd is None else (options, initrd)


def start_digests(kernel: bytes, hashed: Hash) -> tuple[bytes, ...]:
    """Digests of what the firmware measures into register 4 when it starts this kernel and nothing else."""
    return (image_digest(kernel, hashed), *(hashed(event).digest() for event in (CALLING, SEPARATOR)))


def extend(events: Iterable[bytes], hashed: Hash) -> bytes:
    """The register that these events lead to, from zeros."""
    return extend_digests((hashed(event).digest() for event in events), hashed)


def extend_digests(digests: Iterable[bytes], hashed: Hash) -> bytes:
    """As `extend`, of the events' digests."""
    register = bytes(hashed(b"").digest_size)
    for digest in digests:
        register = hashed(register + digest).digest()
    return register


def image_digest(kernel: bytes, hashed: Hash) -> bytes:
    """The digest of the kernel as a PE image."""
    made = hashed(b"")
    for part in measured_parts(kernel):
        made.update(part)
    digest: bytes = made.digest()
    return digest
