"""What libguestfs has to boot a guest from on this host."""

from __future__ import annotations

from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.machine import Reader


@dataclass(frozen=True)
class Appliance:
    """What the guest is made of.

    Args:
        binding: whether Python finds `guestfs`.
        missing: programs that are not installed.
        kernel: an unpacked tree with a kernel and its modules; None to take the host's own.
        kvm: whether KVM runs guests here at the processor's speed.
        cache: where the guest is kept.
        root: vmtool runs as root.
    """

    binding: bool
    missing: tuple[str, ...]
    kernel: Path | None
    kvm: bool
    cache: Path
    root: bool


def has_kernel(reader: Reader, release: str) -> bool:
    """Whether the host's own kernel can be booted as a guest: Ubuntu's is readable by root only."""
    return reader.exists(f"/boot/vmlinuz-{release}") and reader.exists(f"/lib/modules/{release}/modules.dep")
