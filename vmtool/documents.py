"""Reading a YAML file, which is untrusted input: bounded, without cycles, and with the line of every key."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any

import yaml

from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.scalars import MERGE, TAG, Ambiguity, is_text, scalar
from vmtool.yaml_errors import no_yaml

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
COLLECTIONS = (f"{TAG}seq", f"{TAG}map")
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Args:
        value: plain dicts, lists, strings, numbers, booleans and None.
        lines: the 1-based line of each key and item, by its path from the top.
        words: each value that is no collection, as it is written, without quotes.
        problems: values that are wrong as they are written, or that YAML's versions read differently, by place; whoever
            reads the file reports them with its own.
    """

    path: Path
    value: Any
    lines: dict[Place, int]
    words: dict[Place, str] = field(default_factory=dict)
    problems: dict[Place, str | Ambiguity] = field(default_factory=dict)

    def line(self, place: Place, problem: str) -> str:
        """A problem, as a person reads it: file, line and key before it."""
        return f"{self.where(place)}: {'.'.join(map(_shown, place)) or 'document'}: {problem}"

    def where(self, place: Place) -> str:
        """`file:line` of the place, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}:{self.lines.get(place, 1)}"


def read(path: Path, hint: str = "") -> Document:
    """Read one YAML document.

    Args:
        hint: what shows a whole file of its kind, for one that cannot be read.

    Raises:
        Refused: the file is absent, too large, not text, not YAML, cyclic, or holds a key twice.
    """
    try:
        data = read_regular(path, MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    if len(data) > MAX_BYTES:
        raise Refused(f"{path}: larger than {MAX_BYTES >> 20} MiB, so it is no spec")
    try:
        node = yaml.compose(data.decode(), yaml.SafeLoader) if data.strip() else None
        if node is None:
            raise Refused(f"{path}: empty", hint=hint)
        walk = _Walk(path, hint)
        value = walk.value(node, (), ())
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise no_yaml(path, data, error, hint) from error
    return Document(path, value, walk.lines, walk.words, walk.problems)


def _shown(part: str | int) -> str:
    """A part of a place: on one line, and no longer than a line."""
    text = str(part)
    return (text if text.isprintable() else repr(text)[1:-1])[:64]


class _Walk:
    """Builds the value; refuses cycles, keys that occur twice, and documents that aliases would blow up."""

    def __init__(self, path: Path, hint: str) -> None:
        self.path, self.hint = path, hint
        self.lines: dict[Place, int] = {}
        self.words: dict[Place, str] = {}
        self.problems: dict[Place, str | Ambiguity] = {}
        self.visited = 0

    def value(self, node: Any, place: Place, above: tuple[Any, ...]) -> Any:
        """The value of a node at a place, inside the nodes `above`."""
        self._enter(node, above)
        self.lines.setdefault(place, node.start_mark.line + 1)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in COLLECTIONS:
            raise self._refused(node, f"the tag {node.tag.replace(TAG, '!!')[:40]} is not understood")
        inside = (*above, node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, index), inside) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, inside)
        value, problem = scalar(node)
        self.words[place] = node.value
        if problem:
            self.problems[place] = problem
        return value

    def _enter(self, node: Any, above: tuple[Any, ...]) -> None:
        if any(node is other for other in above):
            raise self._refused(node, "the document contains itself (an alias to something around it)")
        self.visited += 1
        if self.visited > MAX_NODES or len(above) > 50:
            raise self._refused(node, "too many or too deeply nested values, so it is no spec")

    def _mapping(self, node: yaml.MappingNode, place: Place, inside: tuple[Any, ...]) -> dict[str, Any]:
        """A key is its text, whatever it looks like."""
        made = {}
        for name, (key, value) in self._pairs(node, inside).items():
            self.lines[*place, name] = key.start_mark.line + 1
            made[name] = self.value(value, (*place, name), inside)
        return made

    def _pairs(self, node: yaml.MappingNode, inside: tuple[Any, ...]) -> dict[str, tuple[Any, Any]]:
        """Key and value by the key's text; `<<` brings those of other mappings, which yield to its own."""
        own: dict[str, tuple[Any, Any]] = {}
        merged: dict[str, tuple[Any, Any]] = {}
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not is_text(key.value):
                raise self._refused(key, "a key must be a plain word")
            if key.value in seen:
                raise self._refused(key, f"the key {key.value[:64]!r} occurs twice")
            seen.add(key.value)
            if key.tag != MERGE:
                own[key.value] = key, value
                continue
            for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(other, yaml.MappingNode):
                    raise self._refused(key, "<< takes a mapping, or a list of them")
                self._enter(other, inside)
                merged = self._pairs(other, (*inside, other)) | merged
        return merged | own

    def _refused(self, node: Any, why: str) -> Refused:
        return Refused(f"{self.path}:{node.start_mark.line + 1}: {why}", hint=self.hint)

