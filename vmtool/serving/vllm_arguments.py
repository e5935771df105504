"""Arguments for vLLM, read as its parser reads them but without its guesses: a word that no option takes is a mistake.

vLLM takes one stray word for the model's name (its positional `model_tag`), any unambiguous beginning of a name for
the name, and the last of two values.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from vmtool.serving.vllm_options import INSTEAD, UNKNOWN, Option, table

Place = tuple[str | int, ...]
INTEGER = re.compile(r"-?[0-9]+")
NUMBER = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
# As vLLM's human_readable_int takes them.
SIZE = re.compile(r"-?[0-9]+|[0-9]+[KMGT]|[0-9]+(\.[0-9]+)?[kmgt]")
# A little less than the kernel takes as one argument, or one variable, of a program (execve(2), MAX_ARG_STRLEN).
LONGEST = 120_000
WANTED = {"int": "a whole number", "size": "a whole number, or one like 64M", "float": "a number", "text": "a text",
          "json": "a mapping", "flag": "true or false"}


@dataclass(frozen=True)
class Argument:
    """One option with its value: a truth value, a text, a list of texts, or what JSON can hold."""

    option: Option
    value: Any
    place: Place = ()

    @property
    def words(self) -> tuple[str, ...]:
        """As the server is given it; nothing of it can be taken for anything else."""
        name = f"--{self.option.name}"
        if self.option.kind == "flag" or isinstance(self.value, bool):
            return (name,) if self.value else (f"--no-{self.option.name}",) if self.option.off else ()
        if self.option.many and isinstance(self.value, list):
            return (name, *self.value)
        value = self.value if isinstance(self.value, str) else json.dumps(self.value)
        return (f"{name}={value}",)


class Mistake(NamedTuple):
    """What is wrong, and where in what was written."""

    place: Place
    text: str


Read = tuple[tuple[Argument, ...], tuple[Mistake, ...]]


def from_mapping(values: Mapping[str, Any]) -> Read:
    """Arguments as `name: value`."""
    arguments, problems = [], []
    for name, value in values.items():
        plain = name.replace("_", "-")
        option = table().options.get(plain)
        try:
            if option is None and plain.startswith("no-") and plain[3:] in table().options:
                raise ValueError(f"write {plain[3:]}: false")
            if value is None:
                raise ValueError("has no value" + ("; write true or false" if option and option.kind == "flag" else ""))
            arguments.append(Argument(option, _typed(option, value), (name,)) if option else
                             unknown(f"--{plain}", value, (name,)))
        except ValueError as error:
            problems.append(Mistake((name,), str(error)))
    return tuple(arguments), (*problems, *given_twice(arguments), *too_long(arguments))


def text_value(option: Option, text: str) -> Any:
    """The value that a text is for an option.

    Raises:
        ValueError: it cannot be one.
    """
    if option.choices and text not in option.choices:
        near = difflib.get_close_matches(text, option.choices, n=1)
        raise ValueError(f"{text[:60]!r} is not one of {', '.join(option.choices[:12])}" + (
            f"; did you mean {near[0]!r}?" if near else ""))
    if option.kind == "json":
        return _json(option, text)
    fits = {"int": bool(INTEGER.fullmatch(text)), "size": bool(SIZE.fullmatch(text)) or text == "auto",
            "float": bool(NUMBER.fullmatch(text))}
    if not fits.get(option.kind, True):
        raise ValueError(f"{text[:60]!r} is not {WANTED[option.kind]}")
    if set(text) & set("\0\r") or not text:
        raise ValueError("is empty" if not text else "holds a zero byte or a carriage return")
    return text


def _json(option: Option, text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{text[:60]!r} is not JSON: a command line takes its quotes away") from None
    if not isinstance(value, dict) and (option.keys or not isinstance(value, list)):
        raise ValueError(f"{text[:60]!r} is not a mapping")
    return value


def _typed(option: Option, value: Any) -> Any:
    """The value of an option in a mapping."""
    if option.kind == "flag":
        if not isinstance(value, bool):
            raise ValueError(f"{value!r:.60} is not true or false")
        return value
    if option.many:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ValueError("is empty; leave the key out")
        return [_typed(replace(option, many=False), item) for item in items]
    if option.kind == "json" and (isinstance(value, dict) or (isinstance(value, list) and not option.keys)):
        return value
    if isinstance(value, bool | dict | list) or (isinstance(value, float) and option.kind != "float"):
        what = "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else json.dumps(value)
        quotes = ': put it in quotes' if option.kind == "text" and not isinstance(value, list | dict) else ""
        raise ValueError(f"is {what}, and takes {WANTED[option.kind]}{quotes}")
    return text_value(option, str(value))


def unknown(spelling: str, value: Any, place: Place) -> Argument:
    """An option that is not in the table; whether it may be given is decided with the other powers."""
    name = spelling.removeprefix("--")
    if not re.fullmatch(r"--[a-z0-9][a-z0-9-]*", spelling):
        raise ValueError(f"unknown option {spelling[:60]!r}{near(spelling)}")
    values = [value] if not isinstance(value, list) else value
    if not values or values[0] is True:
        return Argument(Option(name, "flag", UNKNOWN), True, place)
    if any(isinstance(each, dict) for each in values):
        return Argument(Option(name, "json", UNKNOWN), value, place)
    texts = [json.dumps(each) if not isinstance(each, str) else each for each in values]
    many = len(texts) > 1
    return Argument(Option(name, "text", UNKNOWN, many=many), texts if many else texts[0], place)


def near(spelling: str) -> str:
    """The option that was probably meant, for the end of a message."""
    name = spelling.lstrip("-").lower().replace("_", "-")
    # An unambiguous beginning is what vLLM would complete.
    begun = [known for known in table().options if name and known.startswith(name)]
    found = begun if len(begun) == 1 else difflib.get_close_matches(name, table().options, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def given_twice(arguments: Iterable[Argument]) -> Iterator[Mistake]:
    """Options that occur twice: vLLM would take the last."""
    seen: set[str] = set()
    for argument in arguments:
        if argument.option.name in seen:
            yield Mistake(argument.place, f"--{argument.option.name} is given twice")
        seen.add(argument.option.name)


def too_long(arguments: Iterable[Argument]) -> Iterator[Mistake]:
    """Arguments that no program can be given."""
    for argument in arguments:
        if any(len(word.encode()) > LONGEST for word in argument.words):
            yield Mistake(argument.place, f"is longer than an argument can be, {LONGEST} bytes")


def refused_by_name(option: Option) -> str:
    """Why an option can never be given, and what does it instead; empty for others."""
    instead = INSTEAD.get(option.name, "")
    if option.power == "secret":
        why = "is a secret, which arguments, plans and logs would show"
        return f"--{option.name} {why}" + (f": write {instead}" if instead else "")
    if option.power == "own":
        why = "is decided elsewhere" if instead else "would open another way in than the front"
        return f"--{option.name} {why}" + (f": write {instead}" if instead else "")
    return ""
