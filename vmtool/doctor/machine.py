"""Findings on the machine itself: user, processor, kernel, memory, disk."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.architecture import BY_MACHINE
from vmtool.doctor.host import HostFacts
from vmtool.facts.kernel import KernelFacts
from vmtool.findings import Finding, Handler, Level, finding, size

GIB = 1 << 30
# The smallest model under vLLM took 1.5 GiB; a Kata guest has 2 GiB by default.
MEMORY = 2 * GIB
# A vLLM image takes 2.5 GB unpacked, as much again while it is imported, and the model comes on top.
DISK_FAIL, DISK_WARN = 4 * GIB, 12 * GIB
LIMITS = ("cpu", "memory", "pids")
CONTAINER_OPTIONS = ("NET_NS", "PID_NS", "UTS_NS", "IPC_NS", "VETH", "BRIDGE", "NF_NAT", "SECCOMP_FILTER", "MEMCG",
                     "CFS_BANDWIDTH", "CGROUP_PIDS")
KATA_OPTIONS = ("KVM", "VHOST_VSOCK")
VFIO_OPTIONS = ("VFIO", "VFIO_PCI", "VFIO_IOMMU_TYPE1")


def machine_findings(facts: HostFacts, purpose: Handler) -> Iterator[Finding]:
    """What every purpose needs, in its own measure."""
    yield finding("user.root", "runs as root", "ok" if facts.is_root else "warn",
                  "effective user id 0" if facts.is_root else "an ordinary user; some things were not looked at",
                  "run as root: sudo vmtool doctor")
    model = ", ".join(filter(None, (facts.cpu.arch or "unknown architecture", facts.cpu.model,
                                    f"{facts.cpu.cores} core{'s' * (facts.cpu.cores != 1)}",
                                    "itself a virtual machine" * facts.cpu.in_guest)))
    yield finding("cpu.arch", "processor", "ok" if facts.cpu.arch in BY_MACHINE else "fail", model,
                  f"use an {' or '.join(BY_MACHINE)} machine")
    if purpose != "libvirt":
        yield _overlayfs(facts.kernel)
        yield _limits(facts)
    yield _options(facts.kernel, purpose)
    yield from _memory(facts)
    yield _disk(facts)


def _overlayfs(kernel: KernelFacts) -> Finding:
    title, hint = "overlay file system", "modprobe overlay; boot a kernel with CONFIG_OVERLAY_FS if that fails"
    if "overlay" in kernel.filesystems:
        return finding("kernel.overlayfs", title, "ok", "listed in /proc/filesystems")
    built = kernel.config.get("OVERLAY_FS")
    if built == "m":
        return finding("kernel.overlayfs", title, "warn", "a module that is not loaded yet", "modprobe overlay")
    if built is None:
        return finding("kernel.overlayfs", title, "not-checked",
                       "not in /proc/filesystems, and the kernel's configuration was not found", hint)
    return finding("kernel.overlayfs", title, "fail", f"CONFIG_OVERLAY_FS is not set ({kernel.config_source})", hint)


def _options(kernel: KernelFacts, purpose: Handler) -> Finding:
    """Built-in or module both count; vfio is a warning, since only GPUs need it."""
    title = "kernel options"
    if kernel.config_source is None:
        return finding("kernel.options", title, "not-checked", f"no configuration of kernel {kernel.release} was found",
                       f"modprobe configs, or install /boot/config-{kernel.release}")
    needed = {"runc": CONTAINER_OPTIONS, "kata": CONTAINER_OPTIONS + KATA_OPTIONS}.get(purpose, ())
    lacking = [name for name in needed if kernel.config.get(name) == "n"]
    for_gpus = [name for name in VFIO_OPTIONS if purpose != "runc" and kernel.config.get(name) == "n"]
    detail = "; ".join(filter(None, (
        f"not set: {', '.join(f'CONFIG_{name}' for name in lacking)}" if lacking else "",
        f"not set, so no GPU can be passed to a guest: {', '.join(f'CONFIG_{name}' for name in for_gpus)}"
        if for_gpus else "")))
    return finding("kernel.options", title, "fail" if lacking else "warn" if for_gpus else "ok",
                   f"{detail or 'all that are needed are set'} ({kernel.config_source})",
                   f"boot a kernel with {', '.join(f'CONFIG_{name}' for name in lacking + for_gpus)}")


def _limits(facts: HostFacts) -> Finding:
    groups = facts.cgroups
    lacking = [name for name in LIMITS if name not in groups.controllers]
    where = f"cgroup version {groups.version}" if groups.version else "no control groups are mounted"
    return finding("memory.limits", "limits for containers", "fail" if lacking else "ok",
                   f"{where}; " + (f"missing: {', '.join(lacking)}" if lacking else f"{', '.join(LIMITS)} can be set"),
                   "boot with systemd.unified_cgroup_hierarchy=1 and without cgroup_disable=, or mount cgroup2: "
                   "mount -t cgroup2 none /sys/fs/cgroup")


def _memory(facts: HostFacts) -> Iterator[Finding]:
    memory, title = facts.memory, "memory"
    if memory.available is None or memory.total is None:
        yield finding("memory.available", title, "not-checked", "/proc/meminfo has no MemAvailable", "free -b")
        return
    level: Level = "fail" if memory.total < MEMORY else "warn" if memory.available < MEMORY else "ok"
    yield finding("memory.available", title, level, f"{size(memory.available)} of {size(memory.total)} available",
                  f"free or add memory, the smallest model needs {size(MEMORY)}: ps aux --sort=-rss | head")


def _disk(facts: HostFacts) -> Finding:
    disk, title = facts.disk, "free disk space"
    if disk.free is None:
        return finding("disk.free", title, "not-checked", f"stat could not be asked about {disk.path}",
                       f"df -h {disk.existing}")
    level: Level = "fail" if disk.free < DISK_FAIL else "warn" if disk.free < DISK_WARN else "ok"
    return finding("disk.free", title, level,
                   f"{size(disk.free)} for {disk.path} ({disk.filesystem} at {disk.existing})",
                   f"make room (an image with vLLM wants {size(DISK_WARN)}), or choose another place: "
                   "vmtool --state-dir DIR")
