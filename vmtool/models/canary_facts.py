"""The directory that a canary model is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmtool.foreign import parse_json
from vmtool.machine import Reader
from vmtool.serving.train_canary import PAIRS


@dataclass(frozen=True)
class CanaryTarget:
    """What is there.

    Args:
        free: nothing, or an empty directory.
        canary: a whole canary model with this vmtool's questions.
        parent: the directory above is there.
    """

    path: Path
    free: bool
    canary: bool
    parent: bool


def read_target(reader: Reader, path: Path) -> CanaryTarget:
    """Look at the directory; a link is not taken for what it leads to."""
    there = reader.link(str(path)) is not None or reader.exists(str(path))
    told = reader.run(("stat", "--format=%F", str(path))) if there else None
    empty = bool(told and told.out.strip() == "directory") and not reader.names(str(path))
    return CanaryTarget(path, not there or empty, _is_canary(reader, path), reader.exists(str(path.parent)))


def _is_canary(reader: Reader, directory: Path) -> bool:
    try:
        record = parse_json(reader.text(str(directory / "canary.json")) or "")
        pairs = tuple((pair["prompt"], pair["expect"]) for pair in record["pairs"])
    except (ValueError, KeyError, TypeError):
        return False
    return pairs == PAIRS and all(reader.exists(str(directory / name)) for name in ("config.json", "model.safetensors"))
