"""Whether the files of a model are whole, by their first bytes and their indexes: what a download leaves out."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from vmtool.foreign import parse_json
from vmtool.machine import Reader

POINTER = b"version https://git-lfs"
INDEXES = ("model.safetensors.index.json", "consolidated.safetensors.index.json", "pytorch_model.bin.index.json")
# The largest header that safetensors itself reads is 100 MB; vmtool looks into less and says nothing of the rest.
HEADER = 32 << 20
MOST = 2000


def pointers(reader: Reader, path: str, files: Mapping[str, int]) -> Iterator[str]:
    """Files that are Git LFS pointers: the name of the content, in the place of the content."""
    for name, size in _some(files):
        if 0 < size < 1024 and _start(reader, f"{path}/{name}", len(POINTER)) == POINTER:
            yield name


def missing_shards(reader: Reader, path: str, files: Mapping[str, int]) -> Iterator[str]:
    """Files that an index names and the directory lacks. Without any other weights only the first index counts."""
    for index in INDEXES:
        if index not in files:
            continue
        named = json_object(reader.text(f"{path}/{index}")).get("weight_map")
        wanted = {str(name) for name in named.values()} if isinstance(named, dict) else set()
        # A repository may hold the same weights twice, and a copy leave one of them out whole.
        if wanted & set(files) or not any(is_weights(name) for name in files):
            yield from sorted(wanted - set(files))


def broken(reader: Reader, path: str, files: Mapping[str, int]) -> Iterator[str]:
    """Safetensors files that are cut, empty or something else, each with why."""
    for name, size in _some(files):
        if name.endswith(".safetensors") and "/" not in name and (
                why := _safetensors_problem(reader, f"{path}/{name}", size)):
            yield f"{name} {why}"


def is_weights(name: str) -> bool:
    """Whether vLLM would load it as weights: they are in the model's directory itself."""
    return "/" not in name and name.endswith((".safetensors", ".bin", ".pt")) and not name.startswith(
        ("adapter_", "training_args", "optimizer", "scheduler"))


def json_object(text: str | None) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        value = parse_json(text or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _safetensors_problem(reader: Reader, file: str, size: int) -> str:
    """By its header: 8 bytes of its length, JSON with each tensor's place (huggingface.co/docs/safetensors)."""
    start = _start(reader, file, 8)
    if not start or start.startswith(POINTER[:8]):
        return "" if start or size else "is empty"
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= 100_000_000:
        return "is not a safetensors file"
    if 8 + length > size:
        return f"is cut off: it has {size} bytes, and its header alone {8 + length}"
    data = _start(reader, file, length, 8) if length <= HEADER else b""
    if len(data) < length:
        return ""  # too large to be looked into; or a recorded host, which keeps the first bytes
    header = json_object(data.decode(errors="replace"))
    try:
        ends = [int(each["data_offsets"][1]) for name, each in header.items() if name != "__metadata__"]
    except (KeyError, IndexError, TypeError, ValueError):
        return "has a header that is not of a safetensors file"
    if not header and data.strip() != b"{}":
        return "has a header that is not of a safetensors file"
    whole = 8 + length + max(ends, default=0)
    return f"is cut off: it has {size} bytes of {whole}" if ends and size < whole else ""


def _start(reader: Reader, file: str, size: int, offset: int = 0) -> bytes:
    piece = reader.piece(file, offset, size)
    return piece.data if piece else b""


def _some(files: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(files.items())[:MOST]
