"""The lint of a configuration: everything that the runtime would not report, or too late."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vmtool.findings import LEVELS, Finding
from vmtool.kata.lint.guest import guest_findings
from vmtool.kata.lint.keys import key_findings
from vmtool.kata.lint.load import load_findings
from vmtool.kata.lint.rules import RULES
from vmtool.kata.lint.runtime_rs import is_runtime_rs, runtime_rs_findings
from vmtool.kata.lint.security import security_findings
from vmtool.kata.lint.silent import silent_findings
from vmtool.kata.lint.start import start_findings
from vmtool.kata.lint.structure import other_hypervisor, structure_findings
from vmtool.kata.lint.target import LintTarget

Family = Callable[[LintTarget], Iterator[Finding]]
FAMILIES: tuple[Family, ...] = (key_findings, load_findings, start_findings, silent_findings, guest_findings,
                                security_findings)


def lint(target: LintTarget) -> tuple[Finding, ...]:
    """Every finding, the worst first, those of one level in the order of their places.

    Of a file for another hypervisor only the structure is checked, and of the Rust runtime's what is known of it.
    """
    found = [finding for family in _families(target) for finding in family(target)
             if RULES[finding.id].holds(target.release)]
    return tuple(sorted(found, key=lambda item: (-LEVELS.index(item.level), _order(item.place))))


def _families(target: LintTarget) -> tuple[Family, ...]:
    if is_runtime_rs(target):
        return (runtime_rs_findings,)
    return (structure_findings,) if other_hypervisor(target) else (structure_findings, *FAMILIES)


def _order(place: str) -> tuple[str, int]:
    name, _, line = place.rpartition(":")
    return (name, int(line)) if line.isdecimal() else (place, 0)
