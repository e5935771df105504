"""Which fake stands for which program: by name, by the module that vmtool's Python runs, by what a container runs."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fakes.machine import (
    builders,
    cni,
    containers,
    coreutils,
    devices,
    guests,
    images,
    iptables,
    models,
    network,
    tls,
)
from tests.fakes.machine.call import Program, done

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine




PROGRAMS: Mapping[str, Program] = {
    "buildah": builders.buildah, "chmod": coreutils.chmod, "chown": coreutils.chown, "cp": coreutils.cp,
    "ctr": containers.ctr, "dmesg": lambda call: done(), "dnf": builders.dnf, "docker": builders.docker,
    "e2fsck": images.e2fsck, "install": coreutils.install, "ip": network.ip, "iptables": iptables.iptables,
    "ln": coreutils.ln, "ls": coreutils.ls, "mkdir": coreutils.mkdir, "mke2fs": images.mke2fs,
    "mkfs.erofs": images.mkfs_erofs,
    "mmdebstrap": builders.mmdebstrap, "modprobe": devices.modprobe, "mv": coreutils.mv,
    "nvidia-smi": devices.nvidia_smi, "qemu-system-x86_64": images.boot, "resize2fs": images.resize2fs,
    "rmdir": coreutils.rmdir, "rpm": builders.rpm, "sha256sum": coreutils.sha256sum, "systemctl": devices.systemctl,
    "stat": coreutils.stat, "tar": coreutils.tar, "tee": coreutils.tee,
    "truncate": coreutils.truncate, "umount": coreutils.umount,
    **dict.fromkeys(("bridge", "portmap", "firewall"), cni.plugin),
}
# What a Python is asked to run, by module, and vmtool's own workers, by name.
MODULES: Mapping[str, Program] = {"nvidia_gpu_tools": devices.gpu_admin, "pip": builders.pip}
WORKERS: Mapping[str, Program] = {
    "libvirt.start_domain": guests.start_domain, "libvirt.end_domain": guests.end_domain,
    "models.collect": builders.collect, **images.WORKERS, **models.WORKERS, **tls.WORKERS}
DAEMONS: Mapping[str, Callable[[FakeMachine, int, tuple[str, ...]], None]] = {
    "containerd": containers.start_containerd}
# What a one-off container writes into the bind mount that it may write to.
CONTAINER_WORK: Mapping[str, Callable[[FakeMachine, str], None]] = {
    "vmtool.serving.train_canary": builders.train_canary, "vmtool.serving.convert_gguf": builders.convert_gguf}


@dataclass(frozen=True)
class Found:
    """The fake of a command line; `words` are what is left for it when that is not all but the first."""

    name: str
    do: Program
    words: tuple[str, ...] | None = None


def find(argv: tuple[str, ...]) -> Found | None:
    """The program that a command line comes to, whether its loader is named or a Python's module."""
    name = posixpath.basename(argv[0])
    if name.startswith("ld-linux") and argv[1] == "--library-path":
        return find(argv[3:]) and Found(posixpath.basename(argv[3]), PROGRAMS[posixpath.basename(argv[3])], argv[4:])
    if name.startswith("python") and "-m" in argv[:4]:
        place = argv.index("-m") + 1
        module = argv[place]
        return Found(module, MODULES[module], argv[place + 1:]) if module in MODULES else None
    return Found(name, PROGRAMS[name]) if name in PROGRAMS else None
