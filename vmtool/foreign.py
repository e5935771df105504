"""Parsing what others wrote: whatever it holds, the answer is a value or a ValueError.

Python's parsers recurse: a text of brackets alone ends them with RecursionError, which is no ValueError. A key of
thousands of dotted parts makes tomllib take minutes.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

_DOTS = 64


def parse_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON text.

    Args:
        pairs: makes the objects.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_toml(text: str | None) -> dict[str, Any]:
    """The tables of a TOML file; none when it is absent, or is not TOML."""
    if text is None or any(
            line.partition("=")[0].count(".") > _DOTS for line in text.splitlines() if "=" in line):
        return {}
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}
