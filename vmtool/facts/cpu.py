"""The processor, and who is looking: architecture, vendor, model, cores, virtualisation flags."""

from __future__ import annotations

import re

from vmtool.frozen import dataclass
from vmtool.machine import Reader

# Implementer codes of the Arm architecture reference manual (MIDR_EL1), as /proc/cpuinfo prints them.
ARM_IMPLEMENTERS = {"0x41": "ARM", "0x48": "HiSilicon", "0x4e": "NVIDIA", "0x50": "APM", "0xc0": "Ampere"}
ARM_PARTS = {"0xd01": "TaiShan v110 (Kunpeng 920)", "0xd02": "TaiShan v120", "0xd0c": "Neoverse N1",
             "0xd4f": "Neoverse V2"}


@dataclass(frozen=True)
class CpuFacts:
    """The processor.

    Args:
        arch: as `uname -m` says: x86_64, aarch64; empty when that could not be asked.
        vendor: AuthenticAMD, GenuineIntel, HygonGenuine, HiSilicon, ...; None when unknown.
        model: the model's name; None when unknown.
        cores: logical processors that are online.
        virtualization: "vmx" or "svm" on x86 where the flag is shown, else None (Arm shows no such flag).
        in_guest: the x86 flag "hypervisor" is there, so this host is itself a virtual machine.
        signature: family, model and stepping of an x86 processor; None when unknown.
    """

    arch: str
    vendor: str | None
    model: str | None
    cores: int
    virtualization: str | None
    in_guest: bool
    signature: tuple[int, int, int] | None = None

    @property
    def is_x86(self) -> bool:
        return self.arch in ("x86_64", "i686")


def read_cpu(reader: Reader) -> CpuFacts:
    """Read /proc/cpuinfo, and the machine's name: of a file since Linux 6.1, else `uname -m`."""
    text = reader.text("/proc/cpuinfo") or ""
    arch = (reader.text("/proc/sys/kernel/arch") or "").strip()
    uname = None if arch else reader.run(("uname", "-m"))
    flags = (_field(text, "flags") or "").split()
    implementer = _field(text, "CPU implementer")
    part = _field(text, "CPU part")
    return CpuFacts(
        arch=uname.out.strip() if uname else arch,
        vendor=_field(text, "vendor_id") or (ARM_IMPLEMENTERS.get(implementer, implementer) if implementer else None),
        model=_field(text, "model name") or (ARM_PARTS.get(part, f"part {part}") if part else None),
        cores=len(re.findall(r"^processor\s*:", text, re.MULTILINE)),
        virtualization=next((flag for flag in ("vmx", "svm") if flag in flags), None),
        in_guest="hypervisor" in flags,
        signature=_signature(text),
    )


def _signature(text: str) -> tuple[int, int, int] | None:
    found = [_field(text, name) or "" for name in ("cpu family", "model", "stepping")]
    if not all(number.isdecimal() for number in found):
        return None
    family, model, stepping = map(int, found)
    return family, model, stepping


def read_is_root(reader: Reader) -> bool:
    """Whether vmtool runs with effective user id 0 (proc(5), /proc/PID/status: real, effective, saved, fs)."""
    found = re.search(r"^Uid:\s+\d+\s+(\d+)", reader.text("/proc/self/status") or "", re.MULTILINE)
    return found is not None and found[1] == "0"


def _field(text: str, name: str) -> str | None:
    """The first processor's value of a field."""
    found = re.search(rf"^{re.escape(name)}\s*:[ \t]*(.*)$", text, re.MULTILINE)
    return found[1].strip() or None if found else None
