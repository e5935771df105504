"""Whether a value has the Go type of its key, as the runtime's TOML library takes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from vmtool.architecture import AMD64
from vmtool.findings import Finding
from vmtool.kata.lint.target import LintTarget

BITS = {"uint": 64, "uint32": 32, "uint64": 64}
SIGNED = {"int32": 31, "int64": 63}
INTEGER = range(-(1 << 63), 1 << 63)
# The runtime keeps a fraction in 32 bits, and takes whole numbers only that these hold exactly.
SAFE, LARGEST = (1 << 24) - 1, 3.4028234663852886e38
TABLES = "array of tables"


def type_findings(target: LintTarget, section: str, name: str, kind: str, value: Any) -> Iterator[Finding]:
    """Of a key that the release knows by this type."""
    if not fits(kind, value):
        yield target.finding("type.wrong", section, name, f"{name} is {_called(value)}, not {_wanted(kind)}",
                             f"write it as {name} = {_example(target, section, name, kind)}")
    elif (most := _beyond(kind, value)) is not None:
        yield target.finding("type.range", section, name, f"the value of {name} does not fit {kind}",
                             f"write a number from 0 to {most}")


def _beyond(kind: str, value: Any) -> int | None:
    """The largest value of the type where this one is out of its range. Go wraps a negative number of 64 bits."""
    if kind in ("uint", "uint64"):
        return None if value in INTEGER else (1 << 63) - 1
    if kind == "uint32":
        return None if 0 <= value < 1 << 32 else (1 << 32) - 1
    if kind in SIGNED:
        most = 1 << SIGNED[kind]
        return None if -most <= value < most else most - 1
    if kind == "float32":
        held = abs(value) <= SAFE if isinstance(value, int) else math.isnan(value) or abs(value) <= LARGEST
        return None if held else SAFE
    return None


def fits(kind: str, value: Any) -> bool:
    """Whether a TOML value has a Go type, as the runtime's TOML library takes it."""
    if kind == "bool":
        return isinstance(value, bool)
    if kind in BITS or kind in SIGNED or kind == "float32":
        return isinstance(value, int | float if kind == "float32" else int) and not isinstance(value, bool)
    if kind.startswith("array"):
        inner = dict if kind == TABLES else str
        return isinstance(value, list) and all(isinstance(item, inner) for item in value)
    return isinstance(value, str)


def _called(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a fraction", str: "a string", list: "a list", dict: "a table"}
    return names.get(type(value), "something else")


def _wanted(kind: str) -> str:
    whole = kind in BITS or kind in SIGNED
    return {"bool": "a boolean", "float32": "a number", "array of string": "a list of strings"}.get(
        kind, "a whole number" if whole else f"an {kind}" if kind == TABLES else "a string")


def _example(target: LintTarget, section: str, name: str, kind: str) -> str:
    from vmtool.rendering import to_toml

    shipped = target.release.shipped.get(AMD64.machine, {}).get("qemu", {}).get("set", {}).get(section, {}).get(name)
    if shipped is not None:
        return to_toml(shipped)
    return {"bool": "true", "float32": "1", "array of string": '["..."]', TABLES: '[{name = "...", path = "/..."}]'
            }.get(kind, "1" if kind in BITS or kind in SIGNED else '"..."')
