"""Which keys a release's parser knows, with type, default and what other shipped templates use.

The table, keys.json, was read from the structs and the rendered templates of four releases. It matters since the
runtime ignores an unknown key of its main file without a word.
"""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("keys.json")


@dataclass(frozen=True)
class Key:
    """A key.

    Args:
        section: such as "hypervisor.qemu".
        type: as the Go struct has it: bool, string, float, uint, uint32, uint64, "array of string" and the like.
        known: the releases (columns of the table) whose parser knows it.
        default: of the plain QEMU template, as TOML; empty when that has none.
        variants: (template, value as TOML), shortened where they are long.
    """

    section: str
    name: str
    type: str
    known: tuple[str, ...]
    default: str
    variants: tuple[tuple[str, str], ...]


@functools.cache
def read_keys() -> tuple[Key, ...]:
    """Every key of every release."""
    table: dict[str, Any] = json.loads(TABLE.read_text())
    return tuple(Key(section, name, entry["type"], tuple(entry["known"]), entry.get("default", ""),
                     tuple(entry.get("variants", {}).items()))
                 for section, keys in table["sections"].items() for name, entry in keys.items())


def releases() -> tuple[str, ...]:
    """The table's columns."""
    return tuple(dict.fromkeys(release for key in read_keys() for release in key.known))


def find_key(section: str, name: str) -> Key | None:
    """The key, in whichever release."""
    return next((key for key in read_keys() if (key.section, key.name) == (section, name)), None)


def known_sections(release: str) -> tuple[str, ...]:
    """The sections that a release reads something from."""
    return tuple(dict.fromkeys(key.section for key in read_keys() if release in key.known))


def nearest(release: str, section: str, name: str) -> str:
    """What was probably meant: a key of the same section, else of another one ("runtime.vfio_mode"); or empty."""
    keys = [key for key in read_keys() if release in key.known]
    here = difflib.get_close_matches(name, [key.name for key in keys if key.section == section], n=1, cutoff=0.75)
    if here:
        return here[0]
    return next((f"{key.section}.{key.name}" for key in keys if key.name == name), "")
