"""From what was asked for to the values of a configuration. The templates only write them down."""

from __future__ import annotations

from dataclasses import dataclass

from vmtool.architecture import ARM64, architecture_of
from vmtool.kata.assets import Assets, assets_of
from vmtool.qemu.timeouts import create_seconds, dial_seconds
from vmtool.spec.kata import KataSpec
from vmtool.spec.kata_releases import Release
from vmtool.spec.runtime import Body
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE, tee_of

MIB = 1 << 20
MAX_PORTS = 16
SLAB = 2048
CGROUPS = ("cgroup_no_v1=all", "systemd.unified_cgroup_hierarchy=1")
# What NVIDIA's templates have: the guest's firmware maps large BARs badly, so Linux shall do it.
NVIDIA = ("pci=realloc", "pci=nocrs", "pci=assign-busses")


@dataclass(frozen=True)
class Asked:
    """What is rendered: a release for a TEE with so many GPUs.

    Args:
        gpus: devices that are passed on, other functions and group members included.
        verity: kernel_verity_params; the spec's, else those of the image's manifest.
        filesystem: of the image, where its manifest tells.
    """

    body: Body
    release: Release
    arch: str
    gpus: int
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
    def assets(self) -> Assets:
        return assets_of(self.kata, self.release, self.arch, self.tee, self.gpus)

    @property
    def vfio(self) -> str:
        """How a device is passed on: by its legacy "group" or by "iommufd"."""
        wanted = self.kata.vfio
        return wanted if wanted != "auto" else self.release.confidential_vfio if self.confidential else "group"

    @property
    def hook_path(self) -> str:
        """The guest's hook directory; empty when no hook is wanted."""
        wanted = self.release.injection if self.kata.injection == "auto" else self.kata.injection
        return self.kata.hook_path if self.gpus and wanted == "hook" else ""


@dataclass(frozen=True)
class Values:
    """One configuration. Memory is in MiB, timeouts in seconds; the names are the file's own."""

    path: str
    kernel: str
    image: str
    initrd: str
    rootfs_type: str
    machine_type: str
    firmware: str
    confidential_guest: bool
    sev_snp_guest: bool
    kernel_params: str
    kernel_verity_params: str
    default_vcpus: int
    default_memory: int
    cold_plug_vfio: str
    pcie_root_port: int
    guest_hook_path: str
    disable_image_nvdimm: bool
    shared_fs: str
    virtio_fs_daemon: str
    virtio_fs_extra_args: tuple[str, ...]
    enable_annotations: tuple[str, ...]
    dial_timeout: int
    create_container_timeout: int
    sandbox_cgroup_only: bool
    static_sandbox_resource_mgmt: bool


def values_of(asked: Asked) -> Values:
    """The values; pure, so that the same wish gives the same bytes."""
    body, assets = asked.body, asked.assets
    memory, vcpus = -(-body.resources.memory // MIB), whole_cpus(body.resources.cpus)
    size = (memory, vcpus, asked.gpus, asked.confidential)
    # With a static size the VM cannot grow later; a GPU pins all memory, so there it must be static as well.
    static = asked.confidential or asked.gpus > 0
    return Values(
        path=assets.qemu, kernel=assets.kernel, image=assets.image, initrd=assets.initrd,
        rootfs_type=rootfs_type(asked), machine_type=architecture_of(asked.arch).board,
        firmware=assets.firmware, confidential_guest=asked.confidential, sev_snp_guest=asked.tee == SNP.name,
        kernel_params=kernel_params(asked, memory), kernel_verity_params=asked.verity,
        default_vcpus=vcpus, default_memory=memory, cold_plug_vfio=cold_plug(asked), pcie_root_port=root_ports(asked),
        guest_hook_path=asked.hook_path, disable_image_nvdimm=static, shared_fs=asked.kata.shared_fs,
        virtio_fs_daemon=assets.virtiofsd, virtio_fs_extra_args=virtiofs_arguments(asked.release),
        enable_annotations=asked.kata.annotations, dial_timeout=dial_seconds(*size),
        create_container_timeout=create_seconds(*size), sandbox_cgroup_only=asked.gpus > 0,
        static_sandbox_resource_mgmt=static,
    )


def whole_cpus(cpus: float) -> int:
    """A VM has whole vCPUs."""
    return max(1, int(-(-cpus // 1)))


def rootfs_type(asked: Asked) -> str:
    """The spec's, else the manifest's; NVIDIA's own images are erofs since 3.30, others that are booted here ext4."""
    if asked.kata.rootfs_type != "auto":
        return asked.kata.rootfs_type
    if asked.filesystem:
        return asked.filesystem
    nvidias = asked.gpus and not asked.kata.image and asked.release.verity
    return "erofs" if nvidias else "ext4"


def cold_plug(asked: Asked) -> str:
    """A GPU goes behind a root port, as in the public guide."""
    if asked.kata.cold_plug_vfio != "auto":
        return asked.kata.cold_plug_vfio
    return "root-port" if asked.gpus else "no-port"


def root_ports(asked: Asked) -> int:
    """One for each device; on machine virt one more for the network."""
    if asked.kata.root_ports is not None:
        return asked.kata.root_ports
    return asked.gpus + (1 if asked.arch == ARM64.machine and asked.gpus else 0)


def kernel_params(asked: Asked, memory: int) -> str:
    """The TEE's words, the release's, NVIDIA's, the spec's: always in this order, since the order is measured."""
    own = tuple(asked.kata.kernel_params.split())
    words: list[str] = []
    known = tee_of(asked.tee)
    if known and known.kata.guest_word and asked.release.root != "vda":
        words += [known.kata.guest_word, f"swiotlb={swiotlb_slabs(memory)},force"]
    if asked.release.verity:
        words += CGROUPS[:1] if asked.gpus else CGROUPS
        words += NVIDIA if asked.gpus else ()
    given = {word.partition("=")[0] for word in own}
    return " ".join((*(word for word in words if word.partition("=")[0] not in given), *own))


def swiotlb_slabs(memory: int) -> int:
    """Slabs of 2 KiB: 1/64 of the memory, at least the guide's 256 MiB and at most 1 GiB, rounded up to a power of two.

    Too few stall large guests; they are taken from ordinary memory.
    """
    wanted = min(max(memory // 64, 256), 1024) * MIB // SLAB
    return 1 << (wanted - 1).bit_length()


def virtiofs_arguments(release: Release) -> tuple[str, ...]:
    """CC-0.8.0 came with a virtiofsd that does not know --announce-submounts."""
    return ("--thread-pool-size=1", *(() if release.keys == "CC-0.8.0" else ("--announce-submounts",)))
