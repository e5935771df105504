"""Every kind of action."""

from __future__ import annotations

import importlib
from pathlib import Path

from vmtool import plan as p

ROOMS = [path.parent.name for path in sorted((Path(__file__).parents[2] / "vmtool").glob("*/actions.py"))]


def kinds() -> list[type[p.Action]]:
    """Every action of every room, found as a journal finds it: in the room's actions.py."""
    for room in ROOMS:
        importlib.import_module(f"vmtool.{room}.actions")
    found, left = [], p.Action.__subclasses__()
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        found += [kind] if kind.__module__.startswith("vmtool.") else []
    return sorted(found, key=p.kind_of)


KINDS = kinds()
