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
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]*)", str(value).strip())
    if isinstance(value, bool) or not match:
        raise ValueError("not a size; write a whole number and a unit, such as 8Gi")
    number, unit = match.groups()
    if unit not in UNITS:
        near = difflib.get_close_matches(unit.removesuffix("B").removesuffix("b").capitalize(), UNITS, n=1, cutoff=0.3)
        raise ValueError(f"unknown unit {unit!r}" + (f"; did you mean {number}{near[0]}?" if near else ""))
    return int(number) * UNITS[unit]
