"""What rendering must know of the host: little, so that it is quick."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from vmtool.facts.cpu import CpuFacts, read_cpu
from vmtool.facts.memory import MemoryFacts, read_memory
from vmtool.kata.assets import Assets
from vmtool.kata.config_choice import resolve
from vmtool.kata.image import ImageFacts, read_hooks, read_image
from vmtool.kata.shims import KataFacts, KataShim, read_kata
from vmtool.machine import Reader

RUNTIME = "io.containerd.kata.v2"


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
    def shim(self) -> KataShim | None:
        """The shim that `ctr run` starts; else the first one."""
        shims = self.kata.shims
        return next((shim for shim in shims if shim.runtime == RUNTIME and shim.on_path), next(iter(shims), None))


@dataclass(frozen=True)
class GuestFacts:
    """The guest's parts on this host.

    Args:
        image: None when an initrd is booted.
        hooks: whether the image has a prestart hook; None when not looked at.
        dm_init: whether the guest kernel was built with CONFIG_DM_INIT; None when its configuration is not there.
        absent: files that were looked for and are not there.
    """

    image: ImageFacts | None
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
    image = None if assets.initrd else read_image(reader, assets.image)
    hooks = read_hooks(reader, image, hook_path) if image and hook_path else None
    return GuestFacts(image, hooks, _dm_init(reader, assets.kernel),
                      tuple(file for file in files if file and not reader.exists(file)))


def _dm_init(reader: Reader, kernel: str) -> bool | None:
    """Kata ships config-VERSION beside vmlinux-VERSION and vmlinuz-VERSION, which its links lead to."""
    real = resolve(reader, kernel)
    version = re.sub(r"^vmlinu[xz][-.]", "", posixpath.basename(real))
    text = reader.text(f"{posixpath.dirname(real)}/config-{version}")
    return None if text is None else "\nCONFIG_DM_INIT=y" in f"\n{text}"
