"""A key that vmtool sets in a shipped configuration, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmtool.frozen import dataclass
from vmtool.kata.base import Base


@dataclass(frozen=True)
class Change:
    """One key that is set.

    Args:
        value: what it becomes; "" where the key shall do nothing.
        reason: why, in one line; it becomes the comment above the key.
        place: the key of the spec that asks for it; empty when vmtool does by itself.
        shipped: what it was; None when it was not there.
    """

    section: str
    key: str
    value: Any
    reason: str
    place: str = ""
    shipped: Any = None


def apply_changes(base: Base, changes: tuple[Change, ...]) -> dict[str, dict[str, Any]]:
    """section -> key -> value of the whole configuration; a section that is new comes last."""
    values: dict[str, dict[str, Any]] = {section: dict(table) for section, table in base.values.items()}
    for change in changes:
        values.setdefault(change.section, {})[change.key] = change.value
    return values


def by_place(changes: tuple[Change, ...]) -> Mapping[tuple[str, str], Change]:
    return {(change.section, change.key): change for change in changes}
