"""Reference values as the file that `vmtool attest verify --reference` reads."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from vmtool.attest.measure.compute import Computed

WIDTH = 118


def reference_text(title: str, computed: Computed) -> str:
    """The same values give the same bytes; what was not computed stands above them, with the reason."""
    lines = [f"# {title}"]
    for name, why in computed.missing.items():
        lines += textwrap.wrap(f"not computed: {name}: {why}", WIDTH, initial_indent="# ", subsequent_indent="#   ")
    lines += ["apiVersion: vmtool/v1", "kind: Reference"]
    return "\n".join((*lines, *_mapping(computed.values, 0))) + "\n"


def _mapping(values: Mapping[Any, Any], depth: int) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{'  ' * depth}{key}:"
            yield from _mapping(value, depth + 1)
        else:
            yield f"{'  ' * depth}{key}: {_quoted(value)}"


def _quoted(value: Any) -> str:
    """In quotes, as a digest of digits alone would be a number; YAML's escapes are JSON's but for the other planes."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(character if character.isascii() else f"\\U{ord(character):08x}" for character in text)
