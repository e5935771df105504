"""The directory that a model is to be made in."""

from __future__ import annotations

from pathlib import Path

from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.serving.convert_gguf import MADE_FROM
from vmtool.serving.train_canary import PAIRS


@dataclass(frozen=True)
class ModelTarget:
    """What is there.

    Args:
        free: nothing, or an empty directory.
        made: the very model that is to be made, whole.
        parent: the directory above is there.
    """

    path: Path
    free: bool
    made: bool
    parent: bool


def read_canary_target(reader: Reader, path: Path) -> ModelTarget:
    """Look for the canary model with this vmtool's questions."""
    return _target(reader, path, _is_canary(reader, path))


def read_converted_target(reader: Reader, path: Path, digest: str) -> ModelTarget:
    """Look for the model that was made from what has this digest."""
    return _target(reader, path, (reader.text(str(path / MADE_FROM)) or "").strip() == digest)


def _target(reader: Reader, path: Path, made: bool) -> ModelTarget:
    """A link is not taken for what it leads to."""
    there = reader.link(str(path)) is not None or reader.exists(str(path))
    output = reader.run(("stat", "--format=%F", str(path))) if there else None
    empty = bool(output and output.out.strip() == "directory") and not reader.names(str(path))
    return ModelTarget(path, not there or empty, made, reader.exists(str(path.parent)))


def _is_canary(reader: Reader, directory: Path) -> bool:
    try:
        record = parse_json(reader.text(str(directory / "canary.json")) or "")
        pairs = tuple((pair["prompt"], pair["expect"]) for pair in record["pairs"])
    except (ValueError, KeyError, TypeError):
        return False
    return pairs == PAIRS and all(reader.exists(str(directory / name)) for name in ("config.json", "model.safetensors"))
