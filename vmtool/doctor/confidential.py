"""Findings on the trusted execution environment that was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.doctor.host import HostFacts
from vmtool.findings import Finding, Level, finding
from vmtool.tee.table import TeeName, tee_of
from vmtool.tee.tee import KernelNeeds, Tee


def confidential_findings(facts: HostFacts, name: TeeName) -> Iterator[Finding]:
    """Whether the host can start guests in this TEE; what a guest really gets is proven after its launch."""
    tee = tee_of(name)
    if tee is None:
        return
    support = facts.tee[name]
    level: Level = "not-checked" if support.available is None else "ok" if support.available else "fail"
    hint = tee.hint
    if level == "not-checked" and not facts.is_root:
        hint = "run as root: sudo vmtool doctor"
    elif facts.cpu.in_guest:
        hint = "use a bare machine: this host is itself a virtual machine"
    yield finding(f"tee.{name}", tee.title, level, "; ".join(support.evidence), hint)
    if tee.kernel:
        yield from _kernel(facts, tee, tee.kernel)


def _kernel(facts: HostFacts, tee: Tee, needs: KernelNeeds) -> Iterator[Finding]:
    kernel = facts.kernel
    size = kernel.page_size
    yield finding("kernel.page-size", "page size",
                  "not-checked" if size is None else "ok" if size == needs.page_size else "fail",
                  "getconf could not be asked" if size is None else f"{size} bytes",
                  "getconf PAGESIZE" if size is None else f"boot a kernel with {needs.page_option}")
    lacking = [f"{name}={value}" for name, value in needs.cmdline if kernel.parameter(name) != value]
    yield finding(f"kernel.cmdline.{tee.name}", "kernel command line", "fail" if lacking else "ok",
                  f"missing: {' '.join(lacking)}" if lacking else
                  " ".join(f"{name}={value}" for name, value in needs.cmdline),
                  f"add to the kernel command line and reboot: {' '.join(lacking)}")
    fits = kernel.release.startswith(f"{needs.release}.")
    yield finding("kernel.release", "kernel release", "ok" if fits else "warn", kernel.release or "unknown",
                  f"{tee.title}'s patches are known for the {needs.branch} branch: boot one of its kernels")
