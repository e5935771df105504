"""Whether the files of a model are whole, by their first bytes and their indexes: what a download leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmtool.foreign import parse_json, parse_text_json
from vmtool.machine import Reader
from vmtool.models.tensors import tensors_problem

POINTER = b"version https://git-lfs"
INDEX = "model.safetensors.index.json"
INDEXES = (INDEX, "consolidated.safetensors.index.json", "pytorch_model.bin.index.json")
# Of a model of 600 shards it has 9 MB.
LARGEST_INDEX = 64 << 20
SHARD = re.compile(r"(.{1,200}-)([0-9]{5})-of-([0-9]{5})(\.safetensors|\.bin)", re.DOTALL)
MOST = 2000
# What transformers and vLLM parse at the start when it is there, beside config.json and the indexes.
JSON_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tekken.json", "params.json",
              "generation_config.json", "chat_template.json")
# A tokenizer in parts, of which those beside a whole tokenizer.json are not read.
JSON_PARTS = ("added_tokens.json", "vocab.json")
VOCABULARIES = ("tokenizer.model", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
SMALL = 1 << 20
# The end of a zip archive, without a comment, has 22 bytes; PyTorch writes none.
ZIP_END = 1 << 10


def pointers(reader: Reader, path: str, files: Mapping[str, int]) -> Iterator[str]:
    """Files that are Git LFS pointers: the name of the content, in the place of the content."""
    for name in _some(name for name, size in files.items() if 0 < size < 1024):
        if _start(reader, f"{path}/{name}", len(POINTER)) == POINTER:
            yield name


def missing_shards(reader: Reader, path: str, files: Mapping[str, int]) -> Iterator[str]:
    """Files that an index, or the names of other shards, say there are, and the directory lacks.

    Of safetensors vLLM loads what their index names and nothing else. Other indexes may belong to a set of weights that
    a copy left out whole; without any weights only the first index counts.
    """
    found: set[str] = set()
    for index in INDEXES:
        wanted = _named(reader, path, index, files) or set()
        loaded = index == INDEX and any(map(_is_safetensors, files))
        if wanted & set(files) or loaded or not any(map(is_weights, files)):
            found |= wanted - set(files)
    if INDEX not in files:
        found |= _siblings(files) - set(files)
    yield from sorted(found)


def broken(reader: Reader, path: str, files: Mapping[str, int]) -> Iterator[str]:
    """Files that would be loaded and are cut, empty or something else, each with why."""
    named = _named(reader, path, INDEX, files)
    tensors = [name for name in files if name.endswith(".safetensors") and "/" not in name and not name.startswith(".")]
    if named is not None and not named and any(map(_is_safetensors, files)):
        yield f"{INDEX} names no weights"
    for name in _some(tensors):
        # Beside an index vLLM loads nothing that it does not name.
        if not (named and _is_safetensors(name) and name not in named) and (
                why := _tensors_problem(reader, f"{path}/{name}", files[name])):
            yield f"{name} {why}"
    for name in _some(name for name in files if is_weights(name) and not tensors):
        if why := _pickle_problem(reader, f"{path}/{name}", files[name]):
            yield f"{name} {why}"
    in_parts = "tokenizer.json" not in files
    for name in (*JSON_FILES, *(JSON_PARTS if in_parts else ())):
        if name in files and (why := _json_problem(reader, f"{path}/{name}", files[name])):
            yield f"{name} {why}"
    for name in _some(name for name in VOCABULARIES if in_parts and files.get(name) == 0):
        yield f"{name} is empty"


def is_weights(name: str) -> bool:
    """Whether vLLM would load it as weights: they are in the model's directory itself, and not hidden."""
    return "/" not in name and name.endswith((".safetensors", ".bin", ".pt")) and not name.startswith(
        (".", "adapter_", "training_args", "optimizer", "scheduler"))


def json_object(text: str | bytes | None) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        value = parse_text_json(text or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_safetensors(name: str) -> bool:
    """Whether it is what the index of safetensors is of."""
    return is_weights(name) and name.endswith(".safetensors") and not name.startswith("consolidated")


def _named(reader: Reader, path: str, index: str, files: Mapping[str, int]) -> set[str] | None:
    """The files that an index names; None without a whole one."""
    if index not in files or files[index] > LARGEST_INDEX:
        return None
    data = _start(reader, f"{path}/{index}", files[index])
    text = data if len(data) == files[index] else (reader.text(f"{path}/{index}") or "")
    named = json_object(text).get("weight_map")
    return {name for name in named.values() if isinstance(name, str)} if isinstance(named, dict) else set()


def _siblings(files: Mapping[str, int]) -> set[str]:
    """All shards of the sets that some shards' names are of: model-00001-of-00003.safetensors."""
    sets = {(match[1], match[3], match[4]) for name in files if is_weights(name) and (match := SHARD.fullmatch(name))}
    return {f"{stem}{number:05}-of-{count}{ending}" for stem, count, ending in sets
            for number in range(1, min(int(count), MOST) + 1)}


def _tensors_problem(reader: Reader, file: str, size: int) -> str:
    start = _start(reader, file, 8)
    if not start or start.startswith(POINTER[:8]):
        return "" if start or size else "is empty"
    return tensors_problem(lambda length, offset: _start(reader, file, length, offset), size)


def _pickle_problem(reader: Reader, file: str, size: int) -> str:
    """PyTorch writes a zip archive, whose last record ends the file, and before 1.6 a pickle, whose first byte is its
    protocol's."""
    start = _start(reader, file, 8)
    if not size:
        return "is empty"
    if start.startswith(b"PK\x03\x04") and len(start) == 8:
        end = _start(reader, file, ZIP_END, max(0, size - ZIP_END))
        return "" if not end or b"PK\x05\x06" in end else "is cut off: it is a zip archive without its end"
    return "" if not start or start.startswith((b"PK\x03\x04", b"\x80", POINTER[:8])) else "is no file of PyTorch"


def _json_problem(reader: Reader, file: str, size: int) -> str:
    """Of a large file only whether it begins and ends as one of JSON: that of a tokenizer has 30 MB."""
    start = _start(reader, file, min(size, SMALL))
    if not size:
        return "is no JSON: it is empty"
    if len(start) < min(size, SMALL) or start.startswith(POINTER[:8]):
        return ""  # a recorded host, which keeps the first bytes; or a pointer, which is a finding of its own
    if size > SMALL:
        whole = start.lstrip().startswith(b"{") and _start(reader, file, 64, size - 64).rstrip().endswith(b"}")
        return "" if whole else "is no JSON, or cut off"
    try:
        return "" if isinstance(parse_json(start.decode()), dict) else "is no JSON object"
    except ValueError:
        return "is no JSON"


def _start(reader: Reader, file: str, size: int, offset: int = 0) -> bytes:
    piece = reader.piece(file, offset, size)
    return piece.data if piece else b""


def _some(names: Iterator[str] | list[str]) -> list[str]:
    return sorted(names)[:MOST]
