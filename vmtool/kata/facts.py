"""What rendering must know of the host: little, so that it is quick."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from vmtool.errors import NotReady
from vmtool.facts.cpu import CpuFacts, read_cpu
from vmtool.facts.memory import MemoryFacts, read_memory
from vmtool.frozen import dataclass
from vmtool.kata.assets import Assets
from vmtool.kata.config_choice import resolve
from vmtool.kata.shims import RUST, KataFacts, KataShim, read_kata
from vmtool.machine import Reader
from vmtool.spec.kata_releases import Release, release_like
from vmtool.spec.verity_params import verity_problem

if TYPE_CHECKING:
    from vmtool.rootfs.format.image_file import ImageFile

RUNTIME = "io.containerd.kata.v2"
FILESYSTEMS = ("ext4", "xfs", "erofs")


@dataclass(frozen=True)
class Target:
    """The machine that the configuration is for.

    Args:
        arch: x86_64 or aarch64; memory: MiB, cores: logical processors; None when unknown.
        kata: the shims and handlers that are installed.
    """

    arch: str
    memory: int | None
    cores: int | None
    kata: KataFacts

    @property
    def release(self) -> Release | None:
        """The release of that shim; None when there is none, or it is of the Rust runtime."""
        shim = self.shim
        return release_like(shim.version, bool(shim.knows_virtcca)) if shim and shim.language != RUST else None

    @property
    def shim(self) -> KataShim | None:
        """The shim that `ctr run` starts; else the first one."""
        shims = self.kata.shims
        return next((shim for shim in shims if shim.runtime == RUNTIME and shim.on_path), next(iter(shims), None))


@dataclass(frozen=True)
class GuestFacts:
    """The guest's parts on this host.

    Args:
        image: None when an initrd is booted, or there is no such file.
        verity: kernel_verity_params out of the manifest beside the image; empty when it has none.
        filesystem: as the manifest says; empty when it says none that Kata boots.
        hooks: whether the image has a prestart hook; None when not looked at.
        dm_init: whether the guest kernel was built with CONFIG_DM_INIT; None when its configuration is not there.
        absent: files that were looked for and are not there.
    """

    image: ImageFile | None
    verity: str
    filesystem: str
    hooks: bool | None
    dm_init: bool | None
    absent: tuple[str, ...]


def read_target(reader: Reader) -> Target:
    """Look at processor, memory and Kata's shims."""
    cpu = read_cpu(reader)
    return target_of(cpu, read_memory(reader), read_kata(reader, cpu.arch))


def target_of(cpu: CpuFacts, memory: MemoryFacts, kata: KataFacts) -> Target:
    """The machine, from facts that were read already."""
    return Target(cpu.arch, memory.total >> 20 if memory.total is not None else None, cpu.cores or None, kata)


def read_guest(reader: Reader, assets: Assets, hook_path: str) -> GuestFacts:
    """Look at the files that the configuration will name.

    Args:
        hook_path: of the image; empty when no hook is wanted.
    """
    files = (assets.qemu, assets.kernel, assets.initrd or assets.image, assets.firmware, assets.virtiofsd)
    image = None if assets.initrd else _image(reader, assets.image)
    hooks = read_hooks(reader, image, hook_path) if image and hook_path else None
    verity, filesystem = read_promises(reader, assets.image) if image else ("", "")
    return GuestFacts(image, verity, filesystem, hooks, _dm_init(reader, assets.kernel),
                      tuple(file for file in files if file and not reader.exists(file)))


def _image(reader: Reader, path: str) -> ImageFile | None:
    if not path or reader.piece(path, 0, 0) is None:
        return None
    from vmtool.rootfs.format.image_file import look_at_image  # rendering for another host needs it not

    return look_at_image(reader, path)


def read_promises(reader: Reader, image: str) -> tuple[str, str]:
    """dm-verity's parameters and the file system, as the manifest has them; what is not whole counts as absent."""
    from vmtool.rootfs.metadata.manifest_values import read_manifest_values

    values = read_manifest_values(reader, image)
    verity = values.get("verity", {}).get("kernel_verity_params")
    filesystem = values.get("filesystem")
    return (verity if isinstance(verity, str) and not verity_problem(verity) else "",
            next((known for known in FILESYSTEMS if known == filesystem), ""))


def read_hooks(reader: Reader, image: ImageFile, hook_path: str) -> bool | None:
    """Whether the image has an executable file in HOOK_PATH/prestart; None when that could not be looked at.

    The agent runs regular files only, and a missing hook is an entry in its log, no error.
    """
    from vmtool.debian.tools import Tools  # only a guest with a hook needs them
    from vmtool.rootfs.inspect.tree import can_ask, open_tree

    place = posixpath.join(hook_path, "prestart")
    try:
        tree = open_tree(reader, Tools(None), image)
    except NotReady:
        return None
    if not can_ask(place) or tree.look("/") is None:
        return None
    nodes = (tree.look(posixpath.join(place, name)) for name in tree.names(place))
    return any(node is not None and node.executable for node in nodes)


def _dm_init(reader: Reader, kernel: str) -> bool | None:
    """Kata ships config-VERSION beside vmlinux-VERSION and vmlinuz-VERSION, which its links lead to."""
    real = resolve(reader, kernel)
    version = re.sub(r"^vmlinu[xz][-.]", "", posixpath.basename(real))
    text = reader.text(f"{posixpath.dirname(real)}/config-{version}")
    return None if text is None else "\nCONFIG_DM_INIT=y" in f"\n{text}"
