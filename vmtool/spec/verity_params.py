"""dm-verity's parameters as Kata wants them: name=value, five of them, joined by commas."""

from __future__ import annotations

import re

FIELDS = ("root_hash", "salt", "data_blocks", "data_block_size", "hash_block_size")


def parse_verity(text: str) -> dict[str, str]:
    """The fields; what is not name=value keeps an empty value. As Kata reads them: blanks around a field are nothing,
    those on either side of its "=" belong to name and value."""
    parts = (part.strip() for part in text.split(","))
    return {name: value for name, _, value in (part.partition("=") for part in parts if part)}


def verity_problem(text: str) -> str:
    """What is wrong with kernel_verity_params; empty when nothing is, or when it is not set."""
    if not text.strip():
        return ""
    fields = parse_verity(text)
    lacking = [name for name in FIELDS if not fields.get(name)]
    if lacking:
        return f"kernel_verity_params lacks {', '.join(lacking)}"
    if extra := [name for name in fields if name not in FIELDS]:
        return f"kernel_verity_params knows no {extra[0][:40]!r}"
    for name in FIELDS[:2]:
        if not re.fullmatch(r"([0-9a-fA-F]{2})+", fields[name]):
            return f"{name} is not hexadecimal"
    for name in FIELDS[2:]:
        if not re.fullmatch(r"[1-9]\d{0,17}", fields[name]):
            return f"{name} is not a whole number above 0"
    for name in FIELDS[3:]:
        size = int(fields[name])
        if size & (size - 1) or not 512 <= size <= 65536:
            return f"{name} is not a power of two from 512 to 65536"
    return ""
