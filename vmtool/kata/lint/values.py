"""Values that the runtime refuses late, or changes without a word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from vmtool.findings import Finding
from vmtool.kata.lint.rules import QEMU, RUNTIME, Subject
from vmtool.spec.verity_params import verity_problem

PORTS = ("no-port", "root-port", "switch-port", "bridge-port")
# What the runtime itself looks at when it loads the file.
ENUMS = {
    (QEMU, "shared_fs"): ("virtio-9p", "virtio-fs", "virtio-fs-nydus", "none"),
    (QEMU, "block_device_driver"): ("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm", "virtio-blk-ccw"),
    (QEMU, "block_device_aio"): ("io_uring", "native", "threads"),
    (QEMU, "cold_plug_vfio"): PORTS,
    (QEMU, "hot_plug_vfio"): PORTS,
    (RUNTIME, "vfio_mode"): ("vfio", "guest-kernel"),
    (RUNTIME, "internetworking_model"): ("tcfilter", "macvtap", "none", "l2bridging"),
}
MACHINES = ("q35", "microvm", "virt", "pseries", "s390-ccw-virtio")
ROOTFS = ("ext4", "xfs", "erofs")
MAX_PORTS, MAX_BRIDGES, MIN_MEMORY = 16, 5, 256
# COMMAND_LINE_SIZE of x86 and arm64 is 2048 with the final zero; Kata's own parameters take part of it.
COMMAND_LINE, KATAS_OWN = 2047, 400


def value_findings(subject: Subject) -> Iterator[Finding]:
    """All of them."""
    yield from _enums(subject)
    yield from _assets(subject)
    yield from _late(subject)
    yield from _silent(subject)
    yield from _host(subject)
    yield from _params(subject)


def _enums(subject: Subject) -> Iterator[Finding]:
    for (section, key), choices in ENUMS.items():
        value = subject.document.section(section).get(key)
        if isinstance(value, str) and value not in choices:
            yield subject.finding("value.enum", section, key, f"{key} = {value[:60]!r} is none of {', '.join(choices)}",
                                  f"write {key} = \"{choices[0]}\"")


def _assets(subject: Subject) -> Iterator[Finding]:
    table = subject.document.section(QEMU)
    if not table:
        return
    for key in ("path", "kernel"):
        if not subject.text(QEMU, key):
            yield subject.finding("asset.unset", QEMU, key, f"{key} is not set", f"name the file: {key} = \"/...\"")
    image, initrd = subject.text(QEMU, "image"), subject.text(QEMU, "initrd")
    if bool(image) == bool(initrd):
        yield subject.finding("asset.root", QEMU, "initrd" if image else "image",
                              f"image and initrd are {'both' if image else 'neither'} set", "set exactly one of them")
    exists = subject.host.exists
    if exists is None:
        return
    for key in ("path", "kernel", "image", "initrd", "firmware", "firmware_volume"):
        name = subject.text(QEMU, key)
        if name and not exists(name):
            yield subject.finding("asset.absent", QEMU, key, f"{name} is not there", "install it, or correct the path")
    daemon = subject.text(QEMU, "virtio_fs_daemon")
    if subject.text(QEMU, "shared_fs") in ("virtio-fs", "") and not (daemon and exists(daemon)):
        yield subject.finding("asset.virtiofsd", QEMU, "virtio_fs_daemon",
                              f"virtio_fs_daemon is {daemon or 'not set'}, which is not there",
                              "install virtiofsd, or correct the path")


def _late(subject: Subject) -> Iterator[Finding]:
    kind, machine = subject.text(QEMU, "rootfs_type"), subject.text(QEMU, "machine_type")
    if kind and kind not in ROOTFS:
        yield subject.finding("late.rootfs-type", QEMU, "rootfs_type", f"rootfs_type = {kind[:40]!r} is none of "
                              f"{', '.join(ROOTFS)}", "write rootfs_type = \"ext4\"")
    if machine and machine not in MACHINES:
        yield subject.finding("late.machine-type", QEMU, "machine_type", f"machine_type = {machine[:40]!r} is none of "
                              f"{', '.join(MACHINES)}", "write q35 on x86_64, virt on aarch64")
    problem = verity_problem(subject.text(QEMU, "kernel_verity_params"))
    if problem:
        yield subject.finding("late.verity-params", QEMU, "kernel_verity_params", problem,
                              "root_hash=...,salt=...,data_blocks=...,data_block_size=4096,hash_block_size=4096")


def _silent(subject: Subject) -> Iterator[Finding]:
    memory = subject.number(QEMU, "default_memory", 2048)
    if 0 <= memory < MIN_MEMORY:
        yield subject.finding("silent.memory", QEMU, "default_memory", f"default_memory = {memory} (MiB) becomes 2048",
                              f"write {MIN_MEMORY} or more")
    for key in ("pcie_root_port", "pcie_switch_port"):
        count = subject.number(QEMU, key)
        if count > MAX_PORTS:
            yield subject.finding("silent.ports", QEMU, key, f"{key} = {count} becomes {MAX_PORTS}",
                                  f"write {MAX_PORTS} or less, or spread the devices over several VMs")
    if subject.number(QEMU, "default_bridges") > MAX_BRIDGES:
        yield subject.finding("silent.bridges", QEMU, "default_bridges", "default_bridges becomes 5", "write 5 or less")
    ports = {subject.text(QEMU, "cold_plug_vfio"), subject.text(QEMU, "hot_plug_vfio")}
    # On machine virt the network's devices take root ports as well.
    if subject.number(QEMU, "pcie_root_port") and not ports & {"root-port"} and (
            subject.text(QEMU, "machine_type") != "virt"):
        yield subject.finding("silent.root-port", QEMU, "pcie_root_port", "pcie_root_port is ignored: neither "
                              "cold_plug_vfio nor hot_plug_vfio is root-port", 'write cold_plug_vfio = "root-port"')


def _host(subject: Subject) -> Iterator[Finding]:
    host = subject.host
    if host.memory is not None and subject.memory > host.memory:
        yield subject.finding("host.memory", QEMU, "default_memory", f"{subject.memory} MiB, but this host has "
                              f"{host.memory} MiB", "ask for less")
    if host.cores is not None and subject.number(QEMU, "default_vcpus", 1) > host.cores:
        yield subject.finding("silent.vcpus", QEMU, "default_vcpus", f"{subject.number(QEMU, 'default_vcpus', 1)} "
                              f"vCPUs become {host.cores}, all that this host has", f"write {host.cores} or less")


def _params(subject: Subject) -> Iterator[Finding]:
    text = subject.text(QEMU, "kernel_params")
    if len(text.encode()) > COMMAND_LINE - KATAS_OWN:
        yield subject.finding("params.length", QEMU, "kernel_params", f"kernel_params has {len(text.encode())} bytes, "
                              f"and Kata's own come on top: beyond {COMMAND_LINE} the kernel takes none", "shorten it")
    if re.search(r"[\x00-\x1f\x7f]", text):
        yield subject.finding("params.control", QEMU, "kernel_params", "kernel_params holds a line break or another "
                              "control character", "separate parameters by one blank")
    pairs = [word.partition("=")[::2] for word in dict.fromkeys(text.split()) if "=" in word]
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    # These are meant to be repeated.
    for name in (name for name in repeated if name not in ("console", "pci", "earlycon", "systemd.mask")):
        yield subject.finding("params.repeated", QEMU, "kernel_params", f"{name[:60]} has several values: "
                              + ", ".join(value[:40] for other, value in pairs if other == name), "keep one of them")
