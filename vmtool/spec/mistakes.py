"""Mistakes in a document, in a person's words."""

from __future__ import annotations

import copy
import functools
import json
import operator
import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vmtool import documents
from vmtool.scalars import TAG, WORDS, Ambiguity, quoted, scalar
from vmtool.schema import WRITTEN

# pydantic's type of mistake -> what the key takes.
WANTED = {
    "string_type": "a text", "path_type": "a path", "int_type": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "bool_type": "true or false", "tuple_type": "a list", "list_type": "a list",
    "dict_type": "a mapping", "model_type": "a mapping", "model_attributes_type": "a mapping",
}


def in_words(document: documents.Document, detail: ErrorDetails, model: type[BaseModel], spelling: str | Ambiguity,
             *, word: bool) -> str:
    """A mistake that pydantic found, with what to write in its place.

    Args:
        spelling: what is wrong with how the value is written, too.
        word: whether the key would take what the value is read as, which is true, false or null.
    """
    problem = _problem(document, detail, model)
    if not isinstance(spelling, Ambiguity):
        return spelling or problem
    if word:
        return spelling.as_value("true or false")
    if detail["type"] in WANTED and detail["type"] not in ("string_type", "path_type"):
        return spelling.as_value(WANTED[detail["type"]])
    return f"{spelling.is_read}; {problem}" if detail["type"] in ("size", "vllm") else spelling.as_text()


def _problem(document: documents.Document, detail: ErrorDetails, model: type[BaseModel]) -> str:
    """A mistake that pydantic found, in a person's words; near keys and values are suggested."""
    import difflib

    place, kind, value = tuple(detail["loc"]), detail["type"], detail["input"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys(model, place[:-1]), n=1)
        return "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        near = difflib.get_close_matches(str(value), choices, n=1)
        return f"{value!r} is not one of {', '.join(choices)}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return "missing"
    if kind.endswith("_type") and (wanted := WANTED.get(kind)):
        return _other_type(document.words.get(place), value, kind, wanted)
    return detail["msg"].removeprefix("Value error, ")


def taken_as_words(document: documents.Document, spelled: Mapping[documents.Place, str | Ambiguity],
                   model: type[BaseModel], changes: Mapping[str, Any]) -> set[documents.Place]:
    """Where a key would take the true, false or null that a word is read as by some."""
    words = {place: WORDS[problem.plain] for place, problem in spelled.items()
             if isinstance(problem, Ambiguity) and problem.plain and problem.plain in WORDS}
    value = copy.deepcopy(document.value)
    for *above, last in words:
        functools.reduce(operator.getitem, above, value)[last] = words[*above, last]
    try:
        model.model_validate_json(json.dumps({**value, **changes}), strict=True, context=WRITTEN)
    except ValidationError as error:
        refused = {tuple(detail["loc"][:length]) for detail in error.errors(include_url=False)
                   for length in range(len(detail["loc"]) + 1)}
        return words.keys() - refused
    return set(words)


def _other_type(word: str | None, value: Any, kind: str, wanted: str) -> str:
    """A value of another type than the key's; `word` is how it is written."""
    if value is None:
        word = ', "null" for that very word,' if kind in ("string_type", "path_type") else ""
        return f"has no value; write {wanted}{word} or leave the key out"
    if word is None:
        return f"must be {wanted}, not a {'list' if isinstance(value, list) else 'mapping'}"
    if kind in ("string_type", "path_type"):
        return f"{word[:40]} is {'true or false' if isinstance(value, bool) else 'a number'} here, and the key takes " \
               f"text: put it in quotes, {quoted(word[:40])}"
    if isinstance(value, str) and scalar(yaml.ScalarNode(TAG, word))[0] != word:
        return f"{quoted(word[:40])} is a text, and the key takes {wanted}: write it without quotes"
    return f"{word[:40]!r} is not {wanted}"


def _keys(model: type[BaseModel], place: documents.Place) -> list[str]:
    """The keys that are known at a place of the document."""
    for part in place:
        field = next((field for name, field in model.model_fields.items() if part in (name, field.alias)), None)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]
