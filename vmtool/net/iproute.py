"""What the programs of iproute2 print with -j."""

from __future__ import annotations

from typing import Any

from vmtool.foreign import parse_json
from vmtool.machine import Reader


def read_objects(reader: Reader, *argv: str) -> list[dict[str, Any]]:
    """The objects of the printed list; for some empty lists they print nothing at all, or an empty object."""
    output = reader.run(argv)
    try:
        found = parse_json(output.out) if output and output.status == 0 else []
    except ValueError:
        return []
    return [item for item in found if isinstance(item, dict) and item] if isinstance(found, list) else []
