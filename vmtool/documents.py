"""Reading a YAML file that nobody vouches for: bounded, without cycles, and with the line of every key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vmtool.errors import Refused

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Args:
        value: plain dicts, lists, strings, numbers, booleans and None.
        lines: the 1-based line of each key and item, by its path from the top.
    """

    path: Path
    value: Any
    lines: dict[Place, int]

    def where(self, place: Place) -> str:
        """`file:line` of the place, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}:{self.lines.get(place, 1)}"


def read(path: Path) -> Document:
    """Read one YAML document.

    Raises:
        Refused: the file is absent, too large, not text, not YAML, cyclic, or holds a key twice.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    if len(data) > MAX_BYTES:
        raise Refused(f"{path}: larger than {MAX_BYTES >> 20} MiB, so it is no spec")
    if not data.strip():
        raise Refused(f"{path}: empty", hint="start from images/quickstart.yaml")
    try:
        node = yaml.compose(data.decode(), yaml.SafeLoader)
        if node is None:
            raise Refused(f"{path}: empty", hint="start from images/quickstart.yaml")
        lines: dict[Place, int] = {}
        _walk(node, (), (), lines, path)
        return Document(path, yaml.constructor.SafeConstructor().construct_document(node), lines)
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: not text (byte {error.start})") from error
    except (yaml.YAMLError, RecursionError, ValueError, KeyError) as error:  # PyYAML lets dates and tags raise these
        raise Refused(f"{path}: not YAML", details=str(error).splitlines()[:6]) from error


def _walk(node: Any, place: Place, above: tuple[Any, ...], lines: dict[Place, int], path: Path) -> None:
    """Record lines; refuse cycles, keys that occur twice, and documents that aliases would blow up."""
    line = node.start_mark.line + 1
    if any(node is other for other in above):
        raise Refused(f"{path}:{line}: the document contains itself (an alias to something around it)")
    if len(lines) > MAX_NODES or len(above) > 50:
        raise Refused(f"{path}:{line}: too many or too deeply nested values, so it is no spec")
    lines.setdefault(place, line)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*place, index), (*above, node), lines, path)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Refused(f"{path}:{key.start_mark.line + 1}: a key must be a plain word")
            if key.value in seen:
                raise Refused(f"{path}:{key.start_mark.line + 1}: the key {key.value!r} occurs twice")
            seen.add(key.value)
            lines[*place, key.value] = key.start_mark.line + 1
            _walk(value, (*place, key.value), (*above, node), lines, path)
