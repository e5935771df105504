"""What is asked of Kata: a release for a TEE with so many GPUs, on the configuration that it ships for that."""

from __future__ import annotations

from vmtool.frozen import dataclass
from vmtool.kata.assets import Assets, assets_of
from vmtool.kata.base import MIB, Base
from vmtool.qemu.timeouts import create_seconds, dial_seconds
from vmtool.spec.kata import KataSpec
from vmtool.spec.kata_releases import INIT_DATA, Release
from vmtool.spec.runtime import Body
from vmtool.tee.table import NONE


@dataclass(frozen=True, eq=False)
class KataRequest:
    """What is rendered.

    Args:
        base: the shipped configuration; None when the release has none for this TEE and these GPUs.
        gpus: devices that are passed on, other functions and group members included.
        verity: kernel_verity_params; the spec's, else those of the image's manifest.
        filesystem: of the image, where its manifest says it.
    """

    body: Body
    release: Release
    arch: str
    gpus: int
    base: Base | None
    verity: str = ""
    filesystem: str = ""

    @property
    def kata(self) -> KataSpec:
        return self.body.runtime.kata

    @property
    def tee(self) -> str:
        return self.body.runtime.tee

    @property
    def confidential(self) -> bool:
        return self.tee != NONE

    @property
    def memory(self) -> int:
        """MiB."""
        return -(-self.body.resources.memory // MIB)

    @property
    def vcpus(self) -> int:
        """A VM has whole vCPUs."""
        return max(1, int(-(-self.body.resources.cpus // 1)))

    @property
    def assets(self) -> Assets:
        return assets_of(self.kata, self.base)

    @property
    def vfio(self) -> str:
        """How a device is passed on: by its legacy "group" or by "iommufd"."""
        wanted = self.kata.vfio
        return wanted if wanted != "auto" else self.release.confidential_vfio if self.confidential else "group"

    @property
    def takes_init_data(self) -> bool:
        """Whether it is made with init data: in a TEE, which binds its evidence to it, and for an encrypted model,
        whose key may be released for that model alone."""
        return (self.confidential and self.body.model.encryption is not None
                and self.release.version >= INIT_DATA and not self.release.virtcca)

    @property
    def injection(self) -> str:
        """How a GPU gets into the container: by "hook" or "cdi"."""
        return self.release.injection if self.kata.injection == "auto" else self.kata.injection

    @property
    def hook_path(self) -> str:
        """The guest's hook directory; empty when no hook is wanted."""
        return self.kata.hook_path if self.gpus and self.injection == "hook" else ""

    @property
    def dial_seconds(self) -> int:
        return dial_seconds(self.memory, self.vcpus, self.gpus, self.confidential)

    @property
    def create_seconds(self) -> int:
        return create_seconds(self.memory, self.vcpus, self.gpus, self.confidential)
