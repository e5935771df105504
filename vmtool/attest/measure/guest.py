"""What of a guest is measured before any program of its own runs, and what of it cannot be worked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass

# Of a firmware, a kernel or an initramfs.
LARGEST = 1 << 30
MIB = 1 << 20
Signature = tuple[int, int, int]


class NotComputed(Exception):
    """Why a value cannot be known before the start."""


@dataclass(frozen=True)
class MeasuredGuest:
    """A guest as its launcher starts it.

    Args:
        tee: none, snp, tdx or virtcca; tpm: whether it has a TPM, into which its firmware measures.
        firmware, kernel, initrd: files; None for none.
        cmdline: the kernel's; None when it is not known before the start, and `unknown` says why.
        signature: family, model and stepping that its processors show; None when unknown.
        memory: bytes; libvirt rounds them up to MiB (`given_memory`).
        machine: QEMU's type; qemu: its version, empty when unknown.
        image: digest of the workload's container image; root_hashes: of its disks, by their names.
        init_data: the text that it is made with; empty for none.
        device_tree: file with that of a guest like it, as QEMU dumps it; None for none.
    """

    tee: str
    architecture: str
    firmware: Path | None
    kernel: Path | None
    initrd: Path | None
    cmdline: str | None
    vcpus: int
    memory: int
    machine: str
    tpm: bool = False
    unknown: str = ""
    init_data: str = ""
    qemu: str = ""
    signature: Signature | None = None
    image: str = ""
    root_hashes: Mapping[str, str] = field(default_factory=dict)
    device_tree: Path | None = None

    @property
    def given_memory(self) -> int:
        return -(-self.memory // MIB) * MIB

    def known_cmdline(self) -> str:
        """The kernel's command line.

        Raises:
            NotComputed: it is not known.
        """
        if self.cmdline is None:
            raise NotComputed(self.unknown)
        return self.cmdline

    def known_kernel(self) -> bytes:
        """The kernel that QEMU hands to the firmware.

        Raises:
            NotComputed: it hands none, or it cannot be read.
        """
        self._require_kernel()
        return content(self.kernel, "kernel")

    def known_initrd(self) -> bytes | None:
        """The initrd beside that kernel; None for none.

        Raises:
            NotComputed: there is no such kernel, or it cannot be read.
        """
        self._require_kernel()
        return content(self.initrd, "initrd") if self.initrd else None

    def _require_kernel(self) -> None:
        if self.kernel is None:
            raise NotComputed("the image's own boot loader measures what it starts")


def content(path: Path | None, what: str) -> bytes:
    """A file that is measured.

    Raises:
        NotComputed: there is none, or it cannot be read.
    """
    if path is None:
        raise NotComputed(f"the guest has no {what}")
    try:
        data = read_regular(path, LARGEST + 1)
    except OSError as error:
        raise NotComputed(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except VmtoolError as error:
        raise NotComputed(error.message) from error
    if len(data) > LARGEST:
        raise NotComputed(f"{path}: larger than {LARGEST >> 30} GiB")
    return data
