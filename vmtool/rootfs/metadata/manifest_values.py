"""What the manifest beside an image says, without the models that hold every value to its form.

`vmtool.rootfs.metadata.manifest` has them; they take a while to import, which two values are not worth.
"""

from __future__ import annotations

from typing import Any

from vmtool.foreign import parse_json
from vmtool.machine import Reader


def read_manifest_values(reader: Reader, image: str) -> dict[str, Any]:
    """The values of IMAGE.manifest.json, its `verity` always an object; empty when there is none or it is none."""
    try:
        values = parse_json(reader.text(f"{image}.manifest.json") or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    verity = values.get("verity") or {}
    return {**values, "verity": verity} if isinstance(verity, dict) else {}
