"""Where a release's files lie: below the prefix of its archive, by the names of its own templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vmtool.architecture import AMD64
from vmtool.spec.kata_releases import Release
from vmtool.tee.table import NONE, tee_of


class Wish(Protocol):
    """What the spec says of the files."""

    @property
    def prefix(self) -> str: ...
    @property
    def kernel(self) -> str | None: ...
    @property
    def image(self) -> str | None: ...
    @property
    def initrd(self) -> str | None: ...
    @property
    def qemu(self) -> str | None: ...
    @property
    def firmware(self) -> str | None: ...


@dataclass(frozen=True)
class Assets:
    """Files on the host; `image` is empty when an `initrd` is booted, `firmware` when none is needed."""

    qemu: str
    kernel: str
    image: str
    initrd: str
    firmware: str
    virtiofsd: str


def assets_of(wish: Wish, release: Release, arch: str, tee: str, gpus: int) -> Assets:
    """The spec's files, else the release's."""
    share = f"{wish.prefix}/share/kata-containers"
    nvidia = bool(gpus) and release.injection == "cdi"
    return Assets(
        qemu=wish.qemu or f"{wish.prefix}/bin/{_qemu(release, arch, tee)}",
        kernel=wish.kernel or f"{share}/{_kernel(release, tee, nvidia)}",
        image="" if wish.initrd else wish.image or f"{share}/{_image(release, tee, nvidia)}",
        initrd=wish.initrd or "",
        firmware=wish.firmware or _firmware(wish.prefix, tee, nvidia and arch == AMD64.machine),
        virtiofsd=f"{wish.prefix}/libexec/virtiofsd",
    )


def _qemu(release: Release, arch: str, tee: str) -> str:
    # The patched CC-0.8.0 came with a QEMU of the usual name.
    plain = tee == NONE or release.keys == "CC-0.8.0"
    return f"qemu-system-{arch}{'' if plain else f'-{tee}-experimental'}"


def _kernel(release: Release, tee: str, nvidia: bool) -> str:
    if nvidia:
        return "vmlinuz-nvidia-gpu.container"
    if release.virtcca:
        return "vmlinux.container" if release.keys == "CC-0.8.0" else "vmlinuz-confidential.container"
    return "vmlinux.container" if tee == NONE else "vmlinuz.container"


def _image(release: Release, tee: str, nvidia: bool) -> str:
    if nvidia:
        return f"kata-containers-nvidia-gpu{'' if tee == NONE else '-confidential'}.img"
    plain = tee == NONE or release.keys == "CC-0.8.0"
    return "kata-containers.img" if plain else "kata-containers-confidential.img"


def _firmware(prefix: str, tee: str, gpu_on_x86: bool) -> str:
    known = tee_of(tee)
    name = known.kata.firmware if known else "share/OVMF.fd" if gpu_on_x86 else ""
    return f"{prefix}/{name}" if name else ""
