"""`spec.runtime.kata`: what a person may want of Kata beyond the rest of the spec. All of it can be left out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vmtool.errors import Refused
from vmtool.spec.kata_releases import NAMES, release_of
from vmtool.spec.verity_params import verity_problem

Text = Annotated[str, Field(max_length=65_536)]
Asset = Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)]


class KataSpec(BaseModel):
    """Kata's part of a spec.

    Args:
        version: a release that vmtool knows, or a version between two; "auto" asks the installed shim; e.g. `"3.30"`
        prefix: where Kata's release archive is unpacked; e.g. `/opt/kata`
        kernel: the guest's kernel,
            instead of the release's own; e.g. `/opt/kata/share/kata-containers/vmlinuz.container`
        image: the guest's image, instead of the release's own; e.g. `/var/lib/images/rootfs.img`
        initrd: an initrd in the place of an image; e.g. `/var/lib/images/rootfs.initrd`
        qemu: the emulator, instead of the release's own; e.g. `/usr/bin/qemu-system-x86_64`
        firmware: the guest's firmware, instead of the release's own; e.g. `/usr/share/OVMF/OVMF_CODE.fd`
        rootfs_type: the image's file system; e.g. `ext4`
        kernel_params: further words of the guest's kernel command line; they come last, in this order; e.g. `quiet`
        verity: "root_hash=...,salt=...,data_blocks=...,data_block_size=...,hash_block_size=..."; left out, the image
            is not verified; e.g. `"root_hash=ab,salt=cd,data_blocks=1,data_block_size=4096,hash_block_size=4096"`
        injection: how a GPU comes into the container: "hook" by an OCI hook of the image,
            "cdi" by the agent; e.g. `cdi`
        hook_path: the hooks' directory inside the image; e.g. `/usr/share/oci/hooks`
        vfio: "group" passes /dev/vfio/N, "iommufd" /dev/vfio/devices/vfioN; e.g. `iommufd`
        cold_plug_vfio: where a device is plugged before the guest starts; e.g. `root-port`
        root_ports: PCIe root ports; computed from the GPUs when left out; e.g. `4`
        shared_fs: "none" only where the guest pulls images itself; e.g. `none`
        annotations: what annotations of a pod may change, as Kata's enable_annotations; e.g. `[kernel_params]`
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    version: str = "auto"
    prefix: Asset = "/opt/kata"
    kernel: Asset | None = None
    image: Asset | None = None
    initrd: Asset | None = None
    qemu: Asset | None = None
    firmware: Asset | None = None
    rootfs_type: Literal["auto", "ext4", "xfs", "erofs"] = "auto"
    kernel_params: Text = ""
    verity: Text = ""
    injection: Literal["auto", "hook", "cdi"] = "auto"
    hook_path: Asset = "/usr/share/oci/hooks"
    vfio: Literal["auto", "group", "iommufd"] = "auto"
    cold_plug_vfio: Literal["auto", "no-port", "root-port", "switch-port"] = "auto"
    root_ports: Annotated[int, Field(ge=0, le=1024)] | None = None
    shared_fs: Literal["virtio-fs", "none"] = "virtio-fs"
    annotations: tuple[Text, ...] = ()

    @field_validator("version")
    @classmethod
    def _known(cls, version: str) -> str:
        found = {name.lower(): name for name in ("auto", *NAMES)}.get(version.lower())
        if found:
            return found
        try:
            release_of(version)
        except Refused:
            raise ValueError(f"{version[:40]!r} is not known; use auto, {', '.join(NAMES)}") from None
        return version.lower()

    @field_validator("verity")
    @classmethod
    def _whole(cls, verity: str) -> str:
        if problem := verity_problem(verity):
            raise ValueError(problem)
        return verity
