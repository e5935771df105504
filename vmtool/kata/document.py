"""A configuration as the shim sees it: the main file with its drop-ins merged, and where each value came from.

Foreign files are not to be trusted: they are bounded, and never anything but parsed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmtool.errors import Refused

LIMIT = 1 << 20
DEPTH = 16
# The largest template has 130 keys.
VALUES = 2000
Place = tuple[str, ...]
HEADER = re.compile(r"\s*\[+\s*([^\]#]+?)\s*\]+")
QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")
ASSIGNMENT = re.compile(r"\s*([\w-]+|\"[^\"]*\"|'[^']*')\s*=")


@dataclass(frozen=True)
class Document:
    """A parsed configuration.

    Args:
        name: the main file.
        values: what all files together say.
        places: (section..., key) -> "file:line".
        drop_ins: keys that a drop-in sets; there an unknown key keeps the shim from starting.
    """

    name: str
    values: dict[str, Any]
    places: dict[Place, str]
    drop_ins: frozenset[Place] = field(default=frozenset())

    def section(self, name: str) -> dict[str, Any]:
        """A section's values; empty when it is absent or no table."""
        found: Any = self.values
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def where(self, section: str, key: str = "") -> str:
        """`file:line` of a key, of its section, or the file."""
        place = tuple(part for part in (*section.split("."), key) if part)
        while place and place not in self.places:
            place = place[:-1]
        return self.places.get(place, self.name)


def parse(text: str, name: str = "configuration.toml") -> Document:
    """Parse one file.

    Raises:
        Refused: it is not TOML, or too deeply nested.
    """
    deep = f"{name}: nested deeper than {DEPTH} levels, so it is no configuration of Kata"
    # tomllib takes minutes for one key of thousands of dotted parts.
    if any(re.sub(QUOTED, "", line).partition("#")[0].count(".") > 2 * DEPTH for line in text.split("\n")):
        raise Refused(deep)
    try:
        values = tomllib.loads(text)
        depth, count = _extent(values)
        if depth > DEPTH:
            raise Refused(deep)
        if count > VALUES:
            raise Refused(f"{name}: more than {VALUES} values, so it is no configuration of Kata")
    except RecursionError as error:
        raise Refused(deep) from error
    except ValueError as error:  # TOMLDecodeError is one, and so is a number that Python finds too long
        raise Refused(f"{name}: not TOML: {str(error)[:200]}",
                      hint="correct the line; the shim refuses it too") from None
    return Document(name, values, {place: f"{name}:{line}" for place, line in _lines(text)})


def read(path: Path, drop_ins: Sequence[Path] = ()) -> Document:
    """Read the main file and merge its drop-ins over it, in order, as the shim does.

    Raises:
        Refused: a file cannot be read, is larger than 1 MiB, is not UTF-8 or not TOML.
    """
    document = parse(_text(path), str(path))
    for extra in drop_ins:
        other = parse(_text(extra), str(extra))
        document = Document(document.name, _merged(document.values, other.values), document.places | other.places,
                            document.drop_ins | frozenset(other.places))
    return document


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise Refused(f"{path}: {'not a regular file' if path.exists() else 'no such file'}",
                          hint="vmtool kata which shows which file each shim reads")
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise Refused(f"{path}: larger than {LIMIT >> 20} MiB, so it is no configuration of Kata")
        return data.decode().replace("\r\n", "\n")
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: not UTF-8 (byte {error.start})") from error


def _extent(value: Any) -> tuple[int, int]:
    """How deep, and how many values."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    extents = [_extent(item) for item in inner]
    return 1 + max((depth for depth, _ in extents), default=0), 1 + sum(count for _, count in extents)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _lines(text: str) -> Iterator[tuple[Place, int]]:
    """The line of each section and key. Good enough for files that people write: tomllib keeps no positions.

    A key that is repeated in an array of tables has the line of its last occurrence.
    """
    section: Place = ()
    inside = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not inside:
            if header := HEADER.match(line):
                section = tuple(part.strip(" \"'") for part in header[1].split("."))
                yield section, number
            elif found := ASSIGNMENT.match(line):
                yield (*section, found[1].strip("\"'")), number
        for quotes in ('"""', "'''"):
            # A multi-line string may hold anything that looks like a key.
            if line.count(quotes) % 2 and inside in ("", quotes):
                inside = "" if inside else quotes
                break
