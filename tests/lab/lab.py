"""The lab as a place: its parts made, and machines started out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.arm64 import ARM64_DISK, ARM64_KERNEL
from tests.lab.cache import Built, ensure
from tests.lab.images import DISK
from tests.lab.parts import KERNEL, QEMU


@dataclass(frozen=True)
class Lab:
    """Where the parts of one architecture's machines lie."""

    qemu: Built
    kernel: Built
    disk: Built

    def program(self, name: str) -> list[str]:
        """The start of an argv for one of QEMU's programs, run by its own loader with its own libraries.

        So it needs neither a chroot nor a mount, and its paths are the host's.
        """
        at = self.qemu.path
        return [str(at / "lib/ld-linux-x86-64.so.2"), "--library-path", str(at / "lib"), str(at / "bin" / name)]

    @property
    def root(self) -> Path:
        """The disk that machines write on in overlays of their own."""
        return self.disk.path / "root.img"


def prepare(say: Callable[[str], None] = lambda _line: None, *, arch: str = "x86_64") -> Lab:
    """Make what is missing; LabError says what cannot be made."""
    kernel, disk = {"x86_64": (KERNEL, DISK), "aarch64": (ARM64_KERNEL, ARM64_DISK)}[arch]
    return Lab(ensure(QEMU, say=say), ensure(kernel, say=say), ensure(disk, say=say))
