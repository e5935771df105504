"""What the lint's rules look at, and the list of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmtool.findings import Finding, Level
from vmtool.kata.document import Document
from vmtool.spec.kata_releases import Release
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE
from vmtool.tee.tdx import TDX
from vmtool.tee.virtcca import VIRTCCA

LARGEST = 1 << 64
QEMU, AGENT, RUNTIME, FACTORY = "hypervisor.qemu", "agent.kata", "runtime", "factory"

# Every rule: id -> (level, what it is about). Ids are stable. fail: it will not start, or would not be what was asked
# for; warn: it starts, and something is not as it seems; note: worth knowing.
RULES: dict[str, tuple[Level, str]] = {
    "key.unknown": ("fail", "a key that the release does not know is ignored without a word"),
    "key.other-release": ("warn", "a key that only other releases know is ignored without a word"),
    "key.drop-in": ("fail", "an unknown hypervisor or agent key in a drop-in keeps the shim from starting"),
    "section.unknown": ("warn", "a section that nothing reads"),
    "section.missing": ("fail", "without [hypervisor.qemu] there is no hypervisor"),
    "type.wrong": ("fail", "a wrong type keeps the shim from starting"),
    "type.range": ("fail", "a number that its type cannot hold"),
    "value.enum": ("fail", "a value that the shim refuses at load"),
    "asset.unset": ("fail", "path and kernel must be set"),
    "asset.root": ("fail", "exactly one of image and initrd; only the start of the VM would tell"),
    "asset.absent": ("fail", "a file that the shim wants is not on this host"),
    "asset.virtiofsd": ("fail", "the shim does not look whether virtio_fs_daemon exists"),
    "late.rootfs-type": ("fail", "only the start of the VM would tell"),
    "late.verity-params": ("fail", "all five fields or none; only the start of the VM would tell"),
    "late.machine-type": ("fail", "only the start of the VM would tell"),
    "late.no-tee": ("fail", "confidential_guest on a host without the TEE; only the start of the VM would tell"),
    "silent.memory": ("warn", "below 256 MiB the runtime takes 2048"),
    "silent.vcpus": ("warn", "more vCPUs than the host has are capped"),
    "silent.ports": ("warn", "more than 16 root or switch ports are capped"),
    "silent.bridges": ("warn", "more than 5 bridges are capped"),
    "silent.root-port": ("warn", "pcie_root_port is ignored while no device is plugged by root port"),
    "host.memory": ("fail", "more memory than the host has; the runtime never caps it"),
    "vfio.both": ("fail", "cold_plug_vfio and hot_plug_vfio exclude each other"),
    "vfio.no-port": ("fail", "a GPU was asked for, and no device is plugged"),
    "vfio.hot-plug": ("warn", "a confidential guest takes GPUs by cold plug only"),
    "vfio.hook": ("warn", "nothing would give the GPU to the container inside the guest"),
    "vfio.cgroup": ("warn", "GPUs in a confidential guest want sandbox_cgroup_only"),
    "tee.not-confidential": ("fail", "a TEE was asked for, and the file makes an ordinary VM"),
    "tee.other": ("fail", "the file makes another TEE than was asked for"),
    "tee.combination": ("fail", "the release does not know this TEE"),
    "tee.silent-vm": ("fail", "a stock shim on arm64 ignores confidential_guest"),
    "tee.firmware": ("fail", "SNP and TDX measure the guest's firmware, so one must be named"),
    "tee.static": ("warn", "a confidential guest cannot grow: static_sandbox_resource_mgmt"),
    "tee.hotplug": ("warn", "memory cannot be plugged into a confidential guest"),
    "tee.template": ("fail", "a confidential guest cannot be cloned from a template"),
    "tee.virtcca-params": ("fail", "the patched 3.15 shim adds no virtcca_cvm_guest=1 of its own"),
    "tee.virtcca-repeated": ("warn", "the patched CC-0.8.0 shim adds the guest's parameters itself"),
    "params.length": ("warn", "the kernel cuts its command line at 2048 bytes without a word"),
    "params.control": ("warn", "a control character in kernel_params: the runtime splits at blanks of any kind"),
    "params.repeated": ("warn", "one parameter with two values; most of the kernel takes the last"),
    "timeout.dial": ("warn", "shorter than a guest of this size may take"),
    "launch.pod-resources": ("warn", "outside Kubernetes pod_resource_api_sock must be empty"),
    "security.debug-console": ("warn", "a shell in the guest for whoever has the host"),
    "security.debug-params": ("warn", "the guest's kernel command line opens a shell or a debug mode"),
    "security.devtools": ("warn", "the GPU's devtools mode protects nothing"),
    "security.shared-fs": ("warn", "the container's root file system comes from the untrusted host"),
    "security.annotations": ("warn", "whoever creates a pod may change the VM"),
    "security.measured-root": ("warn", "nothing measures the guest's root file system"),
    "security.memory-dump": ("warn", "the guest's memory is written to the host when it panics"),
    "security.monitor": ("warn", "a further QEMU monitor is open"),
    "security.debug-log": ("note", "the guest's console and the agent's log go to the host"),
    "security.password": ("warn", "a secret in a file that many can read"),
}


@dataclass(frozen=True)
class HostView:
    """What of the host the lint may look at.

    Args:
        memory: MiB; cores: logical processors. None when unknown.
        tee: what the host can give, by TEE; None when that could not be looked at.
        exists: tells whether a path is there; None when files shall not be looked at.
    """

    memory: int | None = None
    cores: int | None = None
    tee: dict[str, bool | None] | None = None
    exists: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Subject:
    """A document, and against what it is held.

    Args:
        asked: the TEE that was asked for; None when only the file tells.
        gpus: how many were asked for; None when only the file tells.
    """

    document: Document
    release: Release
    asked: str | None = None
    gpus: int | None = None
    host: HostView = HostView()

    def text(self, section: str, key: str) -> str:
        """A string; empty when absent or of another type, which another rule tells."""
        value = self.document.section(section).get(key)
        return value if isinstance(value, str) else ""

    def flag(self, section: str, key: str) -> bool:
        return self.document.section(section).get(key) is True

    def number(self, section: str, key: str, default: int = 0) -> int:
        """A whole number (a fraction is rounded up); the default for what is none, inf and nan among it."""
        value = self.document.section(section).get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        if isinstance(value, float) and not math.isfinite(value):
            return default
        # A file may hold a number of any size, which Python would not even print.
        return max(-LARGEST, min(math.ceil(value), LARGEST))

    def words(self, section: str, key: str) -> list[str]:
        value = self.document.section(section).get(key)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    @property
    def memory(self) -> int:
        """MiB that the VM gets."""
        given = self.number(QEMU, "default_memory", 2048)
        return given if given >= 256 else 2048

    @property
    def tee(self) -> str:
        """The TEE that the file makes, by the runtime's own rules."""
        if self.release.keys == "CC-0.8.0" and self.text(QEMU, "machine_type") == "virt":
            return VIRTCCA.name
        if not self.flag(QEMU, "confidential_guest"):
            return NONE
        if self.text(QEMU, "machine_type") == "virt":
            return VIRTCCA.name
        return SNP.name if self.flag(QEMU, "sev_snp_guest") else TDX.name

    @property
    def confidential(self) -> bool:
        return self.tee != NONE or self.asked not in (None, NONE)

    @property
    def with_gpus(self) -> bool:
        ports = {self.text(QEMU, "cold_plug_vfio"), self.text(QEMU, "hot_plug_vfio")}
        return bool(self.gpus) or bool(ports - {"", "no-port"})

    def finding(self, rule: str, section: str, key: str, message: str, hint: str) -> Finding:
        """A finding of a rule at a key."""
        return Finding(rule, RULES[rule][0], f"{section}.{key}".strip("."), message, hint,
                       self.document.where(section, key), "input")


Rule = Callable[[Subject], Any]
