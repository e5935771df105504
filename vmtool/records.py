"""What vmtool writes down to read it back, and what it hands to a worker: a frozen dataclass as JSON.

Apart from `vmtool.schema`, since commands that only look at such files need no pydantic.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from vmtool.foreign import parse_json

T = TypeVar("T")


def record_text(record: Any) -> str:
    """The record as the text of its file."""
    return json.dumps(dataclasses.asdict(record), indent=2) + "\n"


def record_of(kind: type[T], text: str) -> T:
    """The inverse of `record_text`. A field that is not there keeps its default, as records have got further ones.

    Raises:
        ValueError: the text is cut short, is of another kind, or a newer vmtool wrote it.
    """
    try:
        value = parse_json(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return typing.cast(T, _typed(kind, value, kind.__name__))


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
