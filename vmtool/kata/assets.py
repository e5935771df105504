"""The guest's files on the host: what the spec names, else what the release's own configuration names."""

from __future__ import annotations

from typing import Protocol

from vmtool.frozen import dataclass
from vmtool.kata.base import QEMU, Base


class AssetOverrides(Protocol):
    """What the spec says of the files."""

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

    @property
    def placeholders(self) -> dict[str, str]:
        """Key of the spec -> what stands there instead of a file, such as 3.15's for the distribution's QEMU."""
        named = {"qemu": self.qemu, "kernel": self.kernel, "image": self.image, "firmware": self.firmware}
        return {key: path for key, path in named.items() if is_placeholder(path)}


def is_placeholder(path: str) -> bool:
    """Whether a shipped path is none: to be filled in, or the bare directory where a file has no name."""
    return bool(path) and (not path.startswith("/") or path.endswith("/"))


def assets_of(overrides: AssetOverrides, base: Base | None) -> Assets:
    """The spec's files, else the base's. Of image and initrd, one that the spec names replaces the other."""
    def named(key: str) -> str:
        return base.text(QEMU, key) if base else ""

    return Assets(
        qemu=overrides.qemu or named("path"),
        kernel=overrides.kernel or named("kernel"),
        image=overrides.image or ("" if overrides.initrd else named("image")),
        initrd=overrides.initrd or ("" if overrides.image else named("initrd")),
        firmware=overrides.firmware or named("firmware"),
        virtiofsd=named("virtio_fs_daemon"),
    )
