"""What the lint's rules look at: a configuration, what was asked for, and as much of a host as may be looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vmtool.architecture import AMD64, KNOWN
from vmtool.findings import Finding, Level
from vmtool.frozen import dataclass
from vmtool.kata.assets import is_placeholder
from vmtool.kata.base import AGENT, FACTORY, IMAGE, QEMU, RUNTIME
from vmtool.kata.document import Document
from vmtool.kata.lint.rules import RULES
from vmtool.spec.kata_releases import Release
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE, tee_of
from vmtool.tee.tdx import TDX
from vmtool.tee.virtcca import GUEST_WORD, VIRTCCA

__all__ = ["AGENT", "FACTORY", "IMAGE", "QEMU", "RUNTIME", "HostView", "LintTarget"]
LARGEST = 1 << 64
# TEEs of Kata's that vmtool does not know further.
CCA, SECURE_EXECUTION = "cca", "secure-execution"
EMULATORS = {each.machine: f"qemu-system-{each.machine}" for each in KNOWN}


@dataclass(frozen=True)
class HostView:
    """What of the host the lint may look at.

    Args:
        memory: MiB; cores: logical processors. None when unknown.
        tee: what the host can give, by TEE; None when that could not be looked at.
        exists: whether a path is there; None when files shall not be looked at.
    """

    memory: int | None = None
    cores: int | None = None
    tee: dict[str, bool | None] | None = None
    exists: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class LintTarget:
    """A document, and what it is compared with.

    Args:
        asked: the TEE that was asked for; None when only the file says.
        gpus: how many were asked for; None when only the file says.
        arch: as `uname -m` has it; empty when only the file says.
    """

    document: Document
    release: Release
    asked: str | None = None
    gpus: int | None = None
    host: HostView = HostView()
    arch: str = ""

    def get(self, section: str, key: str) -> Any:
        """A value that the release reads; one of a key that it does not know does nothing."""
        return self.document.section(section).get(key) if self.release.knows(section, key) else None

    def text(self, section: str, key: str) -> str:
        """A string; empty when absent or of another type, which another rule reports."""
        value = self.get(section, key)
        return value if isinstance(value, str) else ""

    def flag(self, section: str, key: str) -> bool:
        return self.get(section, key) is True

    def number(self, section: str, key: str, default: int = 0) -> int:
        """A whole number (a fraction is rounded up); the default for what is not a number, inf and nan among it."""
        value = self.get(section, key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        if isinstance(value, float) and not math.isfinite(value):
            return default
        # A file may hold a number of any size, which Python would not even print.
        return max(-LARGEST, min(math.ceil(value), LARGEST))

    def words(self, section: str, key: str) -> list[str]:
        value = self.get(section, key)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    @property
    def memory(self) -> int:
        """MiB that the VM gets."""
        given = self.number(QEMU, "default_memory", 2048)
        return given if given >= 256 else 2048

    @property
    def machine(self) -> str:
        return self.text(QEMU, "machine_type")

    @property
    def architecture(self) -> str:
        """Of the VM: as asked for, else as the emulator's name says; empty when neither does."""
        known = tee_of(self.asked or NONE)
        emulator = self.text(QEMU, "path")
        return self.arch or next((arch for arch, name in EMULATORS.items() if name in emulator), "") or (
            known.architecture.machine if known else "")

    @property
    def unfinished(self) -> bool:
        """A shipped file for hardware of another kind: its QEMU has no name yet."""
        return is_placeholder(self.text(QEMU, "path"))

    @property
    def tee(self) -> str:
        """The TEE that the file makes, by the runtime's own rules."""
        virt, path = self.machine == "virt", self.text(QEMU, "path")
        if self.machine.startswith("s390") or self.text(QEMU, "kernel").endswith(("-se.img", "-secure.img")):
            return SECURE_EXECUTION if self.flag(QEMU, "confidential_guest") else NONE
        if self.release.root == "vda" and virt and AMD64.machine not in path:
            return VIRTCCA.name
        if not self.flag(QEMU, "confidential_guest"):
            return NONE
        if "-cca-" in path or self.get(QEMU, "measurement_algo") is not None:
            return CCA
        if virt:
            return VIRTCCA.name
        return SNP.name if self.flag(QEMU, "sev_snp_guest") else TDX.name

    @property
    def for_virtcca(self) -> bool:
        """Whether the file says by itself that virtCCA is meant."""
        return VIRTCCA.name in (self.asked or "", *self.text(QEMU, "path").split("-")) or (
            GUEST_WORD in self.text(QEMU, "kernel_params").split())

    @property
    def confidential(self) -> bool:
        return self.tee != NONE or self.asked not in (None, NONE)

    @property
    def ports(self) -> set[str]:
        """By which devices are plugged."""
        return {self.text(QEMU, "cold_plug_vfio"), self.text(QEMU, "hot_plug_vfio")} - {"", "no-port"}

    def finding(self, rule: str, section: str, key: str, message: str, hint: str,
                level: Level | None = None) -> Finding:
        """A finding of a rule at a key."""
        return Finding(rule, level or RULES[rule].level, f"{section}.{key}".strip("."), message, hint,
                       self.document.where(section, key), "input")
