"""What the runtime changes or ignores without a word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from vmtool.architecture import AMD64
from vmtool.findings import Finding
from vmtool.kata.kernel_params import REPEATED
from vmtool.kata.lint.load import SHARING
from vmtool.kata.lint.target import FACTORY, QEMU, LintTarget

MAX_PORTS, MAX_BRIDGES, MIN_MEMORY, MAX_LOGLEVEL = 16, 5, 256, 3
# govmm.MaxVCPUs of x86.
MAX_VCPUS = {AMD64.machine: 240}
# COMMAND_LINE_SIZE of x86 and arm64 is 2048 with the final zero; Kata's own parameters take part of it.
COMMAND_LINE, KATAS_OWN = 2047, 400


def silent_findings(target: LintTarget) -> Iterator[Finding]:
    """All of them."""
    yield from _memory(target)
    yield from _vcpus(target)
    yield from _clamps(target)
    yield from _ignored(target)
    yield from _params(target)


def _memory(target: LintTarget) -> Iterator[Finding]:
    memory, most = target.number(QEMU, "default_memory", 2048), target.number(QEMU, "default_maxmemory")
    if 0 <= memory < MIN_MEMORY:
        yield target.finding("silent.memory", QEMU, "default_memory", f"default_memory = {memory} (MiB) becomes 2048",
                             f"write {MIN_MEMORY} or more")
    if 0 < most < target.memory:
        yield target.finding("silent.memory-most", QEMU, "default_maxmemory", f"default_memory = {target.memory} (MiB) "
                             f"becomes {most}", f"write default_maxmemory = 0, or {target.memory} or more")
    if target.host.memory is not None and most > target.host.memory:
        yield target.finding("silent.memory-most", QEMU, "default_maxmemory", f"default_maxmemory = {most} (MiB) "
                             f"becomes {target.host.memory}, all that this host has", "write default_maxmemory = 0")
    for key in ("memory_offset", "default_maxmemory", "rx_rate_limiter_max_rate", "tx_rate_limiter_max_rate",
                "snp_guest_policy"):
        if target.number(QEMU, key) < 0:
            yield target.finding("silent.negative", QEMU, key, f"{key} = {target.number(QEMU, key)} becomes a number "
                                 "near the largest of 64 bits", "write 0 or more")


def _vcpus(target: LintTarget) -> Iterator[Finding]:
    vcpus, most = target.number(QEMU, "default_vcpus", 1), target.number(QEMU, "default_maxvcpus")
    cores = target.host.cores
    if vcpus < 0:
        yield target.finding("silent.vcpus", QEMU, "default_vcpus", f"default_vcpus = {vcpus} becomes all that the "
                             "host has", "write how many the VM shall have")
    elif cores is not None and vcpus > cores:
        yield target.finding("silent.vcpus", QEMU, "default_vcpus", f"{vcpus} vCPUs become {cores}, all that this host "
                             "has", f"write {cores} or less")
    limit = min(cores or (1 << 32), MAX_VCPUS.get(target.architecture, 1 << 32))
    if most > limit:
        yield target.finding("silent.vcpus-most", QEMU, "default_maxvcpus", f"default_maxvcpus = {most} becomes "
                             f"{limit}", f"write {limit} or less, or 0")


def _clamps(target: LintTarget) -> Iterator[Finding]:
    for key in ("pcie_root_port", "pcie_switch_port"):
        count = target.number(QEMU, key)
        if count > MAX_PORTS and target.release.knows(QEMU, key):
            yield target.finding("silent.ports", QEMU, key, f"{key} = {count} becomes {MAX_PORTS}",
                                 f"write {MAX_PORTS} or less, or spread the devices over several VMs")
    bridges = target.get(QEMU, "default_bridges")
    if isinstance(bridges, int) and not 1 <= bridges <= MAX_BRIDGES and not isinstance(bridges, bool):
        yield target.finding("silent.bridges", QEMU, "default_bridges", "default_bridges becomes "
                             f"{MAX_BRIDGES if bridges > MAX_BRIDGES else 1}", f"write 1 to {MAX_BRIDGES}")
    level = target.number(QEMU, "hypervisor_loglevel")
    if level > MAX_LOGLEVEL and target.release.knows(QEMU, "hypervisor_loglevel"):
        yield target.finding("silent.loglevel", QEMU, "hypervisor_loglevel", f"hypervisor_loglevel = {level} becomes "
                             f"{MAX_LOGLEVEL}", f"write {MAX_LOGLEVEL} or less")
    slots = target.number(QEMU, "memory_slots")
    if slots > 255:
        yield target.finding("silent.slots", QEMU, "memory_slots", f"memory_slots = {slots} becomes {slots % 256}",
                             "write 255 or less")


def _ignored(target: LintTarget) -> Iterator[Finding]:
    # On machine virt the network's devices take root ports as well.
    if target.number(QEMU, "pcie_root_port") and "root-port" not in target.ports and target.machine != "virt" and (
            target.release.knows(QEMU, "pcie_root_port")):
        yield target.finding("silent.root-port", QEMU, "pcie_root_port", "pcie_root_port is ignored: neither "
                             "cold_plug_vfio nor hot_plug_vfio is root-port", 'write cold_plug_vfio = "root-port"')
    if target.flag(QEMU, "sev_snp_guest") and not target.flag(QEMU, "confidential_guest"):
        yield target.finding("silent.snp", QEMU, "sev_snp_guest", "sev_snp_guest does nothing without "
                             "confidential_guest", "write confidential_guest = true")
    share = target.text(QEMU, "shared_fs") or "virtio-fs"
    if target.flag(FACTORY, "enable_template") and share in SHARING:
        yield target.finding("silent.template", FACTORY, "enable_template", "enable_template does nothing with "
                             f"{share}",
                             "write enable_template = false")
    driver = target.text(QEMU, "block_device_driver")
    if target.flag(QEMU, "enable_iothreads") and driver not in ("", "virtio-scsi"):
        yield target.finding("silent.iothreads", QEMU, "enable_iothreads", f"enable_iothreads does nothing with "
                             f"{driver}", "write enable_iothreads = false")
    if target.text(QEMU, "kernel_verity_params").strip() and not target.text(QEMU, "image"):
        yield target.finding("silent.verity", QEMU, "kernel_verity_params", "an initrd has no root disk to verify",
                             'write kernel_verity_params = "", or boot an image')
    if target.text(QEMU, "extra_monitor_socket") and not target.flag(QEMU, "enable_debug"):
        yield target.finding("silent.monitor", QEMU, "extra_monitor_socket", "extra_monitor_socket does nothing "
                             "without enable_debug", 'write extra_monitor_socket = ""')


def _params(target: LintTarget) -> Iterator[Finding]:
    text = target.text(QEMU, "kernel_params")
    if len(text.encode(errors="replace")) > COMMAND_LINE - KATAS_OWN:
        yield target.finding("params.length", QEMU, "kernel_params", f"kernel_params has {len(text.encode())} bytes, "
                             f"and Kata's own come on top: beyond {COMMAND_LINE} the kernel takes none", "shorten it")
    if re.search(r"[\x00-\x1f\x7f]", text):
        yield target.finding("params.control", QEMU, "kernel_params", "kernel_params holds a line break or another "
                             "control character", "separate parameters by one blank")
    pairs = [word.partition("=")[::2] for word in dict.fromkeys(text.split()) if "=" in word]
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    for name in (name for name in repeated if name not in REPEATED):
        yield target.finding("params.repeated", QEMU, "kernel_params", f"{name[:60]} has several values: "
                             + ", ".join(value[:40] for other, value in pairs if other == name), "keep one of them")
