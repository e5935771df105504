"""What vmtool writes down to read it back, and what it hands to a worker: a frozen dataclass as JSON.

Apart from `vmtool.schema`, since commands that only look at such files need no pydantic.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import hashlib
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from vmtool.foreign import parse_json

T = TypeVar("T")
CHECKSUM = "checksum"


def sealed_text(values: dict[str, Any]) -> str:
    """An object as the text of its file, with a checksum of all of it, however it is laid out."""
    return json.dumps({**values, CHECKSUM: _checksum(values)}, indent=2) + "\n"


def unsealed(text: str | bytes) -> tuple[dict[str, Any], bool]:
    """The inverse of `sealed_text`, and whether there was a checksum; vmtool 0.1 wrote none.

    Raises:
        ValueError: it is no JSON object, or not the one that was written.
    """
    values = parse_json(text)
    if not isinstance(values, dict):
        raise ValueError("it is no object")
    found = values.pop(CHECKSUM, None)
    if found is not None and found != _checksum(values):
        raise ValueError("it was changed: its checksum does not fit")
    return values, found is not None


def _checksum(values: dict[str, Any]) -> str:
    try:
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record_text(record: Any) -> str:
    """The record as the text of its file."""
    return sealed_text(dataclasses.asdict(record))


def record_of(kind: type[T], text: str | bytes) -> T:
    """The inverse of `record_text`. A field that is not there keeps its default, as records have got further ones.

    Raises:
        ValueError: the text is cut short, was changed, is of another kind, or a newer vmtool wrote it.
    """
    values, _ = unsealed(text)
    return typing.cast(T, _typed(kind, values, kind.__name__))


def _typed(hint: Any, value: Any, place: str) -> Any:
    """A JSON value as what its field holds: a text, number, truth value or path, one of some texts, a tuple or mapping
    of one kind, a record."""
    options = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return None if value is None and types.NoneType in options else _typed(options[0], value, place)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_typed(options[0], item, place) for item in value)
    if typing.get_origin(hint) is collections.abc.Mapping and isinstance(value, dict):
        return {name: _typed(options[1], item, f"{place}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _record(hint, value, place)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not hint and not (typing.get_origin(hint) is Literal and value in options):
        raise ValueError(f"{place} is {json.dumps(value)[:60]}")
    return value


def _record(hint: Any, value: dict[str, Any], place: str) -> Any:
    hints = typing.get_type_hints(hint)
    if unknown := [name for name in value if name not in hints]:
        raise ValueError(f"{place} has no {unknown[0]!r}")
    fields = {name: _typed(hints[name], item, f"{place}.{name}") for name, item in value.items()}
    try:
        return hint(**fields)
    except TypeError as error:
        raise ValueError(f"{place} is not whole: {error}") from error
