"""What `vmtool kata check` says of a file besides its findings: as what it was checked, and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmtool.findings import Finding
from vmtool.kata.lint.runtime_rs import is_runtime_rs
from vmtool.kata.lint.structure import other_hypervisor
from vmtool.kata.lint.target import LintTarget
from vmtool.kata.view import finding_json


def checked_line(file: str, target: LintTarget) -> str:
    """The file, and as what it was checked."""
    shim = ("runtime-rs, as far as its keys are known" if is_runtime_rs(target) else f"Kata {target.release.title}")
    return f"{file}, checked as {shim}" + (f" for {target.asked}" if target.asked else "")


def not_checked(target: LintTarget) -> str:
    """What was not looked at; empty when everything was."""
    if other := other_hypervisor(target):
        return f"[hypervisor.{other}]; vmtool knows QEMU's keys only"
    return "" if target.host.exists else "whether the files that it names are there"


def checked_json(file: str, target: LintTarget, findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs."""
    release = target.release
    return {"file": file, "release": release.name, "release_title": release.title, "exact": release.exact,
            "tee": target.asked, "files_looked_at": target.host.exists is not None,
            "runtime_rs": is_runtime_rs(target), "not_checked": other_hypervisor(target),
            "findings": [finding_json(item) for item in findings]}
