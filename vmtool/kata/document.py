"""A configuration as the shim sees it: the main file with its drop-ins merged, and where each value came from.

The files are untrusted input: bounded, and never anything but parsed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.kata.spelling import Spelling
from vmtool.kata.toml_lines import DEPTH, KeyPath, is_deep, key_lines
from vmtool.rendering import to_toml_key

LIMIT = 1 << 20
# The largest template has 130 keys.
VALUES = 20_000
Keys = Mapping[str, Mapping[str, str]]
BOM = "\ufeff"


@dataclass(frozen=True)
class Document:
    """A parsed configuration. Keys are spelled as the release spells them, since the runtime ignores their case.

    Args:
        name: the main file.
        values: what all files together say.
        places: (section..., key) -> "file:line".
        drop_ins: keys that a drop-in sets; there an unknown key keeps the shim from starting.
        respelled: those of the drop-ins that are in other letter case than the release's.
        twice: keys that one file has in two spellings: the runtime takes either.
        tables: keys that are in two tables of one name in two spellings, with two values.
    """

    name: str
    values: dict[str, Any]
    places: dict[KeyPath, str]
    drop_ins: frozenset[KeyPath] = field(default=frozenset())
    respelled: frozenset[KeyPath] = field(default=frozenset())
    twice: frozenset[KeyPath] = field(default=frozenset())
    tables: frozenset[KeyPath] = field(default=frozenset())

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


def parse(text: str, name: str = "configuration.toml", toml: str = "1.1", keys: Keys | None = None) -> Document:
    """Parse one file.

    Args:
        toml: the version of TOML that the release reads.
        keys: of the release; they are found in any letter case.

    Raises:
        Refused: it is not TOML, or too deeply nested.
    """
    text = text.removeprefix(BOM).replace("\r\n", "\n")
    deep = f"{name}: nested deeper than {DEPTH} levels, so it is no configuration of Kata"
    if is_deep(text):
        raise Refused(deep)
    try:
        values = _loads(text, toml)
        depth, count = _extent(values)
        if depth > DEPTH:
            raise Refused(deep)
        if count > VALUES:
            raise Refused(f"{name}: more than {VALUES} values, so it is no configuration of Kata")
    except RecursionError as error:
        raise Refused(deep) from error
    except ValueError as error:  # TOMLDecodeError is one, and so is a number that Python finds too long
        raise Refused(f"{name}: not TOML {toml}: {str(error)[:200]}",
                      hint="correct the line; the shim refuses it too") from None
    spelling = Spelling(keys or {})
    spelled = spelling.spell(values)
    places = {spelling.path(path): f"{name}:{line}" for path, line in key_lines(text)}
    return Document(name, spelled, places, respelled=frozenset(spelling.respelled), twice=frozenset(spelling.twice),
                    tables=frozenset(spelling.tables))


def _loads(text: str, toml: str) -> dict[str, Any]:
    if toml == "1.0":
        return tomllib.loads(text, parse_float=_float)
    import tomli  # Python's own parser knows TOML 1.0 only

    return tomli.loads(text, parse_float=_float)


def _float(text: str) -> float:
    number = float(text)
    if abs(number) == float("inf") and "inf" not in text:
        raise ValueError(f"the fraction {text[:20]} is out of range")
    return number


def read(path: Path, drop_ins: Sequence[Path] = (), toml: str = "1.1", keys: Keys | None = None) -> Document:
    """Read the main file and merge its drop-ins over it, in order, as the shim does.

    Raises:
        Refused: a file cannot be read, is larger than 1 MiB, is not UTF-8 or not TOML.
    """
    document = replace(parse(_text(path), str(path), toml, keys), respelled=frozenset())
    for extra in drop_ins:
        other = parse(_text(extra), str(extra), toml, keys)
        document = Document(document.name, _merged(document.values, other.values), document.places | other.places,
                            document.drop_ins | frozenset(other.places), document.respelled | other.respelled,
                            document.twice | other.twice, document.tables | other.tables)
    return document


def _text(path: Path) -> str:
    try:
        data = read_regular(path, LIMIT + 1)
        if len(data) > LIMIT:
            raise Refused(f"{path}: larger than {LIMIT >> 20} MiB, so it is no configuration of Kata")
        return data.decode()
    except FileNotFoundError:
        raise Refused(f"{path}: no such file", hint="vmtool kata which shows which file each shim reads") from None
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: not UTF-8 (byte {error.start})") from error


def sections(values: Mapping[str, Any], above: str = "") -> dict[str, dict[str, Any]]:
    """Tables by their dotted names, each with what is a key of it; empty ones are left out."""
    found: dict[str, dict[str, Any]] = {}
    own = {name: value for name, value in values.items() if not isinstance(value, dict)}
    if own:
        found[above] = own
    for name, value in values.items():
        if isinstance(value, dict):
            found |= sections(value, f"{above}.{to_toml_key(name)}".lstrip("."))
    return found


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
