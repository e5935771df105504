"""What a spec can say, key by key: meaning, type, default and example, all from the models and their docstrings."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vmtool.frozen import dataclass
from vmtool.schema import Size
from vmtool.spec.runtime import Spec
from vmtool.spec.vllm import Args

EXAMPLE = re.compile(r";?\s*e\.g\. `(.*)`$", re.DOTALL)
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path",
    dict: "a mapping"}
[SIZE] = typing.get_args(Size)[1:2]


@dataclass(frozen=True)
class Key:
    """One key.

    Args:
        path: with dots, from the top of the file.
        meaning: a sentence.
        type: in words; "a section" has keys of its own.
        default: as YAML; empty for none.
        example: as YAML; empty for a section.
        required: whether a file must have it, once its section is there.
    """

    path: str
    meaning: str
    type: str
    default: str
    example: str
    required: bool
    inner: tuple[Key, ...] = ()


def all_keys(model: type[BaseModel] = Spec, above: str = "") -> Iterator[Key]:
    """The keys of a model, each followed by those inside it."""
    for key in keys_of(model, above):
        yield key
        yield from _inside(key)


def _inside(key: Key) -> Iterator[Key]:
    for each in key.inner:
        yield each
        yield from _inside(each)


def keys_of(model: type[BaseModel], above: str = "") -> tuple[Key, ...]:
    """The keys of one model."""
    meanings = documented(model)
    return tuple(_key(field.alias or name, field, meanings.get(name, ""), above)
                 for name, field in model.model_fields.items())


def documented(model: type[BaseModel]) -> dict[str, str]:
    """Field to its text under `Args:` of the model's docstring."""
    found: dict[str, str] = {}
    name = ""
    for line in (model.__doc__ or "").partition("Args:\n")[2].splitlines():
        if start := re.match(r" {8}(\w+): (.*)", line):
            name = start[1]
            found[name] = start[2]
        elif name and line.startswith(" " * 12):
            found[name] += " " + line.strip()
    return found


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a key that has keys of its own."""
    for option in (annotation, *typing.get_args(annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _key(name: str, field: FieldInfo, text: str, above: str) -> Key:
    path = f"{above}.{name}" if above else name
    section = section_of(field.annotation)
    example = EXAMPLE.search(text)
    default = "" if field.default_factory or field.default in (None, PydanticUndefined, ()) or section else _yaml(field)
    return Key(path, EXAMPLE.sub("", text).rstrip("."), "a section" if section else _type(field), default,
               example[1] if example else "", field.is_required(), keys_of(section, path) if section else ())


def _yaml(field: FieldInfo) -> str:
    value = field.default
    if SIZE in field.metadata:
        return f"{value >> 30}Gi"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value,
        float) else str(value) or '""'


def _type(field: FieldInfo) -> str:
    if any(each in field.metadata for each in typing.get_args(Args)[1:]):
        return "a mapping, a list of texts, or a text"
    if SIZE in field.metadata:
        return "a size with its unit"
    return type_words(field.annotation)


def type_words(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return "a size with its unit" if SIZE in arguments else type_words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(each) for each in arguments if each is not type(None))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if origin is tuple:
        return f"a list, each {type_words(arguments[0])}"
    if origin is dict:
        return f"a mapping of {type_words(arguments[0])} to {type_words(arguments[1])}"
    return NAMES.get(annotation, "a text")
