"""QEMU's arguments, as recorded of what was started."""

from __future__ import annotations

import json
from pathlib import Path

FILES = Path(__file__).parents[2] / "data" / "qemu"


def argv(name: str, **changes: str) -> list[str]:
    """The list of a file, with pieces of its words replaced."""
    words: list[str] = json.loads((FILES / f"{name}.json").read_text())
    for old, new in changes.items():
        assert any(old in word for word in words)
        words = [word.replace(old, new) for word in words]
    return words
