"""Sizes as Kubernetes writes them."""

from __future__ import annotations

import difflib
import re
from typing import Any

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
         "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def parse_size(value: Any) -> int:
    """Bytes of a Kubernetes quantity such as 48Gi, 512Mi, 2G or 1048576.

    Raises:
        ValueError: it is not a size.
    """
    match = re.fullmatch(r"([0-9]{1,15}) *([A-Za-z]*)", str(value).strip())
    if isinstance(value, bool) or not match:
        raise ValueError("not a size; write a whole number and a unit, such as 8Gi")
    number, unit = match.groups()
    if unit not in UNITS:
        near = difflib.get_close_matches(unit.removesuffix("B").removesuffix("b").capitalize(), UNITS, n=1, cutoff=0.3)
        raise ValueError(f"unknown unit {unit!r}" + (f"; did you mean {number}{near[0]}?" if near else ""))
    return int(number) * UNITS[unit]


def parse_size_with_unit(value: Any) -> int:
    """As `parse_size`, of a size that a person writes: without a unit it is bytes, which nobody means.

    Raises:
        ValueError: it is not a size, or has no unit.
    """
    size = parse_size(value)
    if size and str(value).strip().isdecimal():
        raise ValueError(f"{value} has no unit, so it is bytes; did you mean {_with_unit(size)}?")
    return size


def _with_unit(size: int) -> str:
    """The likeliest meaning of a bare number: MiB, or bytes of a size that somebody computed."""
    if size < UNITS["Mi"]:
        return f"{size}Mi"
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return f"{-(-size // UNITS['Mi'])}Mi"
