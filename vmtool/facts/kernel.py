"""The kernel: release, page size, command line, file systems, and the options it was built with."""

from __future__ import annotations

from collections.abc import Mapping

from vmtool.frozen import dataclass
from vmtool.machine import Reader

# The options that vmtool's findings look at; a whole configuration has thousands.
OPTIONS = ("OVERLAY_FS", "NET_NS", "PID_NS", "UTS_NS", "IPC_NS", "VETH", "BRIDGE", "NF_NAT", "SECCOMP_FILTER", "MEMCG",
           "CFS_BANDWIDTH", "CGROUP_PIDS", "KVM", "VHOST_NET", "VHOST_VSOCK", "VFIO", "VFIO_PCI", "VFIO_IOMMU_TYPE1",
           "VFIO_DEVICE_CDEV", "IOMMUFD", "DM_VERITY", "KVM_AMD_SEV", "INTEL_TDX_HOST")
PAGE_SIZE = ("getconf", "PAGESIZE")
# The running kernel's own copy of its configuration.
RUNNING = "/proc/config.gz"
UNPACKED = ("zcat", RUNNING)


@dataclass(frozen=True)
class KernelFacts:
    """The running kernel.

    Args:
        release: as `uname -r`.
        page_size: bytes; None when getconf could not tell.
        cmdline: the words of the kernel command line.
        filesystems: types the kernel knows now; a module that is not loaded yet is missing here.
        config: CONFIG_ options of `OPTIONS` without the prefix -> "y", "m" or "n"; empty when unknown.
        config_source: the file it was read from; None when no configuration was found.
    """

    release: str
    page_size: int | None
    cmdline: tuple[str, ...]
    filesystems: tuple[str, ...]
    config: Mapping[str, str]
    config_source: str | None

    def parameter(self, name: str) -> str | None:
        """The last value of `name=value` on the command line ("" for a bare word); None when it is not there.

        The kernel takes `-` and `_` in parameter names as the same.
        """
        for word in reversed(self.cmdline):
            key, _, value = word.partition("=")
            if key.replace("-", "_") == name.replace("-", "_"):
                return value
        return None


def kernel_questions(reader: Reader) -> tuple[tuple[str, ...], ...]:
    """The programs that `read_kernel` runs."""
    return (PAGE_SIZE, *((UNPACKED,) if reader.exists(RUNNING) else ()))


def read_kernel(reader: Reader) -> KernelFacts:
    """Read /proc and the kernel's configuration."""
    release = (reader.text("/proc/sys/kernel/osrelease") or "").strip()
    uname = None if release else reader.run(("uname", "-r"))
    release = uname.out.strip() if uname else release
    page = reader.run(PAGE_SIZE)
    text, source = _config(reader, release)
    return KernelFacts(
        release=release,
        page_size=int(page.out) if page and page.out.strip().isdecimal() else None,
        # What follows "--" is init's, not the kernel's.
        cmdline=tuple((reader.text("/proc/cmdline") or "").partition(" -- ")[0].split()),
        filesystems=tuple(line.split()[-1] for line in (reader.text("/proc/filesystems") or "").splitlines() if line),
        config=_options(text) if text else {},
        config_source=source,
    )


def _config(reader: Reader, release: str) -> tuple[str, str | None]:
    """The configuration's text and its file; the running kernel's own copy is believed first."""
    if reader.exists(RUNNING):
        unpacked = reader.run(UNPACKED)
        if unpacked and unpacked.status == 0:
            return unpacked.out, RUNNING
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config", f"/lib/modules/{release}/build/.config"):
        text = reader.text(path)
        if text:
            return text, path
    return "", None


def _options(text: str) -> dict[str, str]:
    wanted = {f"CONFIG_{name}": name for name in OPTIONS}
    found = dict.fromkeys(OPTIONS, "n")
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key in wanted:
            found[wanted[key]] = value
    return found
