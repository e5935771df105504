"""The lint of a configuration: everything that the runtime would not tell, or too late."""

from __future__ import annotations

from vmtool.findings import LEVELS, Finding
from vmtool.kata.lint.confidential import confidential_findings
from vmtool.kata.lint.keys import key_findings
from vmtool.kata.lint.rules import Subject
from vmtool.kata.lint.security import security_findings
from vmtool.kata.lint.values import value_findings

FAMILIES = (key_findings, value_findings, confidential_findings, security_findings)


def lint(subject: Subject) -> tuple[Finding, ...]:
    """Every finding, the worst first, those of one level in the order of their places."""
    found = [finding for family in FAMILIES for finding in family(subject)]
    return tuple(sorted(found, key=lambda item: (-LEVELS.index(item.level), _order(item.place))))


def _order(place: str) -> tuple[str, int]:
    name, _, line = place.rpartition(":")
    return (name, int(line)) if line.isdecimal() else (place, 0)
