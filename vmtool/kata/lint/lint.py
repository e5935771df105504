"""The lint of a configuration: everything that the runtime would not report, or too late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

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
from vmtool.spec.kata_releases import Release

Family = Callable[[LintTarget], Iterator[Finding]]
FAMILIES: tuple[Family, ...] = (key_findings, load_findings, start_findings, silent_findings, guest_findings,
                                security_findings)


# What the row of a nearby release says of this one.
UNSURE = ("key.unknown", "key.drop-in", "value.enum", "hypervisor.unknown")


def lint(target: LintTarget) -> tuple[Finding, ...]:
    """Every finding, the worst first, those of one level in the order of their places.

    Of a file for another hypervisor only the structure is checked, and of the Rust runtime's what is known of it.
    """
    found = [_as_known(target.release, finding) for family in _families(target) for finding in family(target)
             if RULES[finding.id].holds(target.release)]
    return tuple(sorted(found, key=lambda item: (-LEVELS.index(item.level), _order(item.place))))


def _as_known(release: Release, finding: Finding) -> Finding:
    """What a row does not know may have come with a release that it only stands in for; a key that is nearly a known
    one is a mistake in any."""
    if release.exact or finding.id not in UNSURE or finding.hint.startswith("did you mean"):
        return finding
    return replace(finding, level="warn", detail=f"{finding.detail}, as far as {release.shim or release.name} is known")


def _families(target: LintTarget) -> tuple[Family, ...]:
    if is_runtime_rs(target):
        return (runtime_rs_findings,)
    return (structure_findings,) if other_hypervisor(target) else (structure_findings, *FAMILIES)


def _order(place: str) -> tuple[str, int]:
    name, _, line = place.rpartition(":")
    return (name, int(line)) if line.isdecimal() else (place, 0)
