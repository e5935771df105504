"""A command line for vLLM, read word by word: what no option takes is a problem, with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vmtool.serving.vllm_arguments import NUMBER, Argument, Mistake, Read, given_twice, text_value, too_long, unknown
from vmtool.serving.vllm_options import Option, table

TOGETHER = re.compile(r"(--?[A-Za-z][\w.-]*)(\s.*)", re.DOTALL)


def from_words(words: Sequence[str]) -> Read:
    """Arguments as words of a command line; places are numbers of words."""
    arguments: list[Argument] = []
    problems: list[Mistake] = []
    for start, group in _grouped(words):
        try:
            arguments.append(_argument(words[start], group, start))
        except ValueError as error:
            problems.append(Mistake((start,), str(error)))
    arguments = list(_merged(arguments))
    return tuple(arguments), (*problems, *given_twice(arguments), *too_long(arguments))


def _grouped(words: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """(index of an option, the words after it that could be its values); what stands before any is a group too."""
    start = 0
    for index in range(1, len(words) + 1):
        if index == len(words) or (words[index].startswith("-") and not NUMBER.fullmatch(words[index])):
            yield start, words[start + 1:index]
            start = index


def _argument(word: str, values: Sequence[str], place: int) -> Argument:
    """One option with the words up to the next one.

    Raises:
        ValueError: it is not an option, or they are not its values.
    """
    for each in (word, *values):
        if each.startswith("#"):
            raise ValueError(f"{each[:40]} is a word for vLLM here, not a comment")
        if each[:1].isspace() or each == "\\":
            raise ValueError("a backslash at the end of a line is a part of a word here: lines need none")
    name, value = _spelling(word)
    dotted, dot, path = name.partition(".")
    known = table().spellings.get(dotted)
    off = dotted.startswith("--no-") and dotted[5:] in table().options and table().options[dotted[5:]].off
    if known is None and not off:
        return unknown(dotted, [*([value] if value is not None else []), *values], (place,))
    option = table().options[dotted[5:] if off else known or ""]
    _check_keys(option, dot, path)
    given = [*([value] if value is not None else []), *values]
    takes = 0 if option.kind == "flag" else len(given) if option.many else 1
    if option.kind == "json" and given and not path:
        takes = _json_words(given)
    if len(given) > takes:
        raise ValueError(_stray(dotted, given[takes:], takes))
    if option.kind == "flag":
        return Argument(option, not off, (place,))
    if not given:
        raise ValueError(f"{dotted} needs a value")
    if path:
        return Argument(option, _nested(path, given[0]), (place,))
    return Argument(option, [text_value(option, each) for each in given] if option.many else
                    text_value(option, given[0]), (place,))


def _spelling(word: str) -> tuple[str, str | None]:
    """(the option as the table spells it, what follows its =); vLLM takes underscores for dashes.

    Raises:
        ValueError: it is not an option.
    """
    if not word.startswith("-") or word == "-":
        raise ValueError(f"{word[:60]!r} belongs to no option: vLLM would take it for the model's name")
    if (both := TOGETHER.fullmatch(word.partition("=")[0])) and not word.startswith("-O"):
        written = "=".join(filter(None, (both[1], both[2].strip()[:40])))
        raise ValueError(f"{word[:60]!r} is one word, {'an option and its value' if '=' in written else 'with a blank'}"
                         f": write {written}")
    if found := re.fullmatch(r"-O=?([0-3]?)", word):
        return "--optimization-level", found[1] or None
    name, equals, value = word.partition("=")
    first, dot, path = name.partition(".")
    # The dashes of a short option are its own.
    spelled = "--" + first[2:].replace("_", "-") if first.startswith("--") else first
    return spelled + dot + path, value if equals else None


def _json_words(given: Sequence[str]) -> int:
    """How many words belong to a JSON value: more than one when its quotes are gone and it fell apart."""
    depth = count = 0
    while count < len(given) and (depth > 0 or not count):
        depth += given[count].count("{") - given[count].count("}")
        count += 1
    if count > 1:
        raise ValueError(f"{' '.join(given[:count])[:80]!r} is not JSON: a command line takes its quotes away")
    return 1


def _stray(option: str, words: Sequence[str], takes: int) -> str:
    return (f"{option} takes {'no value' if not takes else 'one value'}, so {words[0][:60]!r} belongs to no option: "
            "vLLM would take it for the model's name")


def _check_keys(option: Option, dot: str, path: str) -> None:
    """Look whether `--option.a.b` can be."""
    if not dot:
        return
    if option.kind != "json" or not all(path.removesuffix("+").split(".")):
        raise ValueError(f"--{option.name} takes no key {path[:40]!r}")


def _nested(path: str, text: str) -> dict[str, Any]:
    """`--option.a.b value` as JSON, as vLLM has it; `a+` is a list's items."""
    value: Any
    try:
        value = text.split(",") if path.endswith("+") else json.loads(text)
    except ValueError:
        value = text
    for key in reversed(path.removesuffix("+").split(".")):
        value = {key: value}
    made: dict[str, Any] = value
    return made


def _merged(arguments: Iterable[Argument]) -> Iterator[Argument]:
    """`--option.a 1 --option.b 2` as one argument."""
    parts: dict[str, Argument] = {}
    for argument in arguments:
        before = parts.get(argument.option.name)
        if before and isinstance(before.value, dict) and isinstance(argument.value, dict) and _disjoint(
                before.value, argument.value):
            _merge(before.value, argument.value)
            continue
        parts[argument.option.name] = argument
        yield argument


def _disjoint(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether no value is in both; sections may be."""
    return all(isinstance(first[key], dict) and isinstance(second[key], dict) and _disjoint(first[key], second[key])
               for key in set(first) & set(second))


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key in into:
            _merge(into[key], value)
        else:
            into[key] = value
