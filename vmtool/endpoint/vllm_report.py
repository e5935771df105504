"""What vLLM says it was started with: its log's `non-default args`, a Python dictionary, and /v1/models."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vmtool.serving.vllm_arguments import Argument

MARK = "non-default args: "
LONGEST = 64 << 10
# What the entrypoint itself gives.
OWN = {"model", "served_model_name", "uds", "disable_uvicorn_access_log", "disable_fastapi_docs"}
ENUM = re.compile(r"<[A-Z]\w*\.(\w+): ([^<>]*)>")
UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Choice(NamedTuple):
    """A member of an enumeration, by its name and its value."""

    name: str
    value: Any


class Taken(NamedTuple):
    """One argument after the start. `same` is None where the server does not say."""

    argument: Argument
    same: bool | None
    said: str


def read_line(line: str) -> dict[str, Any] | None:
    """The arguments that a line of the log names; None when it names none or cannot be read."""
    _, mark, text = line.partition(MARK)
    try:
        tree = ast.parse(ENUM.sub(r"Choice('\1', \2)", text.strip()[:LONGEST]), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = _value(tree) if mark else None
    return found if isinstance(found, dict) else None


def compare(asked: Sequence[Argument], reported: Mapping[str, Any]) -> Iterator[Taken]:
    """Each argument, with whether the server took it."""
    for argument in asked:
        name = argument.option.field
        expected = _expected(argument)
        if name not in reported:
            default = argument.option.default
            # A flag's default is false; what else is left out of the line has its default, which the table has.
            same = expected == (default or False) if argument.option.kind == "flag" else str(expected) == str(default)
            yield Taken(argument, same or None if default is None and argument.option.kind != "flag" else same,
                        "its default")
        else:
            yield Taken(argument, _same(expected, reported[name]), repr(reported[name])[:80])


def unasked(asked: Sequence[Argument], reported: Mapping[str, Any]) -> dict[str, Any]:
    """What the server took and nobody asked for: a stray word is its `model_tag`."""
    known = OWN | {argument.option.field for argument in asked}
    return {name: value for name, value in reported.items() if name not in known}


def _value(node: ast.expr) -> Any:
    """A literal; an object, which Python writes as a call, becomes the mapping of its fields."""
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Call):
        if node.args:
            return Choice(*(_value(each) for each in node.args[:2])) if len(node.args) == 2 else ast.unparse(node)
        return {each.arg: _value(each.value) for each in node.keywords if each.arg}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _expected(argument: Argument) -> Any:
    value, kind = argument.value, argument.option.kind
    numbers: dict[str, Callable[[str], float]] = {"int": int, "float": float, "size": _size}
    if kind in numbers:
        return [numbers[kind](each) for each in value] if isinstance(value, list) else numbers[kind](value)
    return value


def _size(text: str) -> int:
    if text == "auto":
        return -1
    return int(float(text[:-1]) * UNITS[text[-1]]) if text[-1] in UNITS else int(text)


def _same(expected: Any, said: Any) -> bool:
    if isinstance(said, Choice):
        return str(expected).upper() == said.name.upper() or str(expected) == str(said.value)
    if isinstance(expected, dict) and isinstance(said, dict):
        return all(key in said and _same(value, said[key]) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(said, list):
        return len(expected) == len(said) and all(map(_same, expected, said))
    return bool(expected == said) or (isinstance(expected, str) and expected == str(said))
