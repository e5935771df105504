"""What the lint's rules look at, and the list of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmtool.kata.document import Document
from vmtool.kata.finding import Finding, Severity
from vmtool.spec.kata_releases import Release

LARGEST = 1 << 64
QEMU, AGENT, RUNTIME, FACTORY = "hypervisor.qemu", "agent.kata", "runtime", "factory"

# Every rule: id -> (severity, what it is about). Ids are stable.
RULES: dict[str, tuple[Severity, str]] = {
    "key.unknown": ("error", "a key that the release does not know is ignored without a word"),
    "key.other-release": ("warning", "a key that only other releases know is ignored without a word"),
    "key.drop-in": ("error", "an unknown hypervisor or agent key in a drop-in keeps the shim from starting"),
    "section.unknown": ("warning", "a section that nothing reads"),
    "section.missing": ("error", "without [hypervisor.qemu] there is no hypervisor"),
    "type.wrong": ("error", "a wrong type keeps the shim from starting"),
    "type.range": ("error", "a number that its type cannot hold"),
    "value.enum": ("error", "a value that the shim refuses at load"),
    "asset.unset": ("error", "path and kernel must be set"),
    "asset.root": ("error", "exactly one of image and initrd; only the start of the VM would tell"),
    "asset.absent": ("error", "a file that the shim wants is not on this host"),
    "asset.virtiofsd": ("error", "the shim does not look whether virtio_fs_daemon exists"),
    "late.rootfs-type": ("error", "only the start of the VM would tell"),
    "late.verity-params": ("error", "all five fields or none; only the start of the VM would tell"),
    "late.machine-type": ("error", "only the start of the VM would tell"),
    "late.no-tee": ("error", "confidential_guest on a host without the TEE; only the start of the VM would tell"),
    "silent.memory": ("warning", "below 256 MiB the runtime takes 2048"),
    "silent.vcpus": ("warning", "more vCPUs than the host has are capped"),
    "silent.ports": ("warning", "more than 16 root or switch ports are capped"),
    "silent.bridges": ("warning", "more than 5 bridges are capped"),
    "silent.root-port": ("warning", "pcie_root_port is ignored while no device is plugged by root port"),
    "host.memory": ("error", "more memory than the host has; the runtime never caps it"),
    "vfio.both": ("error", "cold_plug_vfio and hot_plug_vfio exclude each other"),
    "vfio.no-port": ("error", "a GPU was asked for, and no device is plugged"),
    "vfio.hot-plug": ("warning", "a confidential guest takes GPUs by cold plug only"),
    "vfio.hook": ("warning", "nothing would give the GPU to the container inside the guest"),
    "vfio.cgroup": ("warning", "GPUs in a confidential guest want sandbox_cgroup_only"),
    "tee.not-confidential": ("error", "a TEE was asked for, and the file makes an ordinary VM"),
    "tee.other": ("error", "the file makes another TEE than was asked for"),
    "tee.combination": ("error", "the release does not know this TEE"),
    "tee.silent-vm": ("error", "a stock shim on arm64 ignores confidential_guest"),
    "tee.firmware": ("error", "SNP and TDX measure the guest's firmware, so one must be named"),
    "tee.static": ("warning", "a confidential guest cannot grow: static_sandbox_resource_mgmt"),
    "tee.hotplug": ("warning", "memory cannot be plugged into a confidential guest"),
    "tee.template": ("error", "a confidential guest cannot be cloned from a template"),
    "tee.virtcca-params": ("error", "the patched 3.15 shim adds no virtcca_cvm_guest=1 of its own"),
    "tee.virtcca-repeated": ("warning", "the patched CC-0.8.0 shim adds the guest's parameters itself"),
    "params.length": ("warning", "the kernel cuts its command line at 2048 bytes without a word"),
    "params.control": ("warning", "a control character in kernel_params: the runtime splits at blanks of any kind"),
    "params.repeated": ("warning", "one parameter with two values; most of the kernel takes the last"),
    "timeout.dial": ("warning", "shorter than a guest of this size may take"),
    "launch.pod-resources": ("warning", "outside Kubernetes pod_resource_api_sock must be empty"),
    "security.debug-console": ("warning", "a shell in the guest for whoever has the host"),
    "security.debug-params": ("warning", "the guest's kernel command line opens a shell or a debug mode"),
    "security.devtools": ("warning", "the GPU's devtools mode protects nothing"),
    "security.shared-fs": ("warning", "the container's root file system comes from the untrusted host"),
    "security.annotations": ("warning", "whoever creates a pod may change the VM"),
    "security.measured-root": ("warning", "nothing measures the guest's root file system"),
    "security.memory-dump": ("warning", "the guest's memory is written to the host when it panics"),
    "security.monitor": ("warning", "a further QEMU monitor is open"),
    "security.debug-log": ("note", "the guest's console and the agent's log go to the host"),
    "security.password": ("warning", "a secret in a file that many can read"),
}


@dataclass(frozen=True)
class Host:
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
    host: Host = Host()

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
            return "virtcca"
        if not self.flag(QEMU, "confidential_guest"):
            return "none"
        if self.text(QEMU, "machine_type") == "virt":
            return "virtcca"
        return "snp" if self.flag(QEMU, "sev_snp_guest") else "tdx"

    @property
    def confidential(self) -> bool:
        return self.tee != "none" or self.asked not in (None, "none")

    @property
    def with_gpus(self) -> bool:
        ports = {self.text(QEMU, "cold_plug_vfio"), self.text(QEMU, "hot_plug_vfio")}
        return bool(self.gpus) or bool(ports - {"", "no-port"})

    def finding(self, rule: str, section: str, key: str, message: str, hint: str) -> Finding:
        """A finding of a rule at a key."""
        return Finding(rule, RULES[rule][0], self.document.where(section, key), f"{section}.{key}".strip("."),
                       message, hint)


Rule = Callable[[Subject], Any]
