"""Words of a command line for vLLM as the mapping that they were meant to be: what a hint shows."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from vmtool.serving.vllm_arguments import Argument, refused_by_name
from vmtool.serving.vllm_options import UNKNOWN
from vmtool.serving.vllm_words import from_words


def mapping_hint(words: Sequence[str]) -> str:
    """The arguments as a line of YAML; empty when nothing can be made of the words."""
    arguments, _ = from_words(tuple(_repaired(words)))
    values = {each.option.name: _value(each) for each in arguments
              if each.option.power != UNKNOWN and not refused_by_name(each.option)}
    if not values:
        return ""
    text = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True).strip()
    return f"write a mapping, in which nothing can be mistaken: args: {text}"


def _repaired(words: Sequence[str]) -> Iterator[str]:
    """The words without comments and backslashes, with what belongs together in one."""
    waiting: list[str] = []
    comment = False
    for word in (part for whole in words for part in _parts(whole)):
        comment = not word.startswith("-") and (comment or word.startswith("#"))
        if comment or not word or word == "\\":
            continue
        waiting.append(word)
        text = " ".join(waiting)
        if text.count("{") > text.count("}"):
            continue
        yield _json(text) if len(waiting) > 1 or text.startswith("{") else text
        waiting = []
    yield from waiting


def _parts(word: str) -> list[str]:
    """A word, or the option and the value that are in it."""
    word = word.strip()
    return re.split(r"\s+", word, maxsplit=1) if re.match(r"--?[A-Za-z][\w.-]*\s", word) else [word]


def _json(text: str) -> str:
    """JSON without its quotes is YAML's flow style."""
    with contextlib.suppress(yaml.YAMLError):
        if isinstance(value := yaml.safe_load(text), dict):
            return json.dumps(value)
    return text


def _value(argument: Argument) -> Any:
    value = argument.value
    if argument.option.kind in ("int", "size", "float") and not isinstance(value, bool):
        numbers = [_number(each) for each in (value if isinstance(value, list) else [value])]
        return numbers if isinstance(value, list) else numbers[0]
    return value


def _number(text: str) -> int | float | str:
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text
