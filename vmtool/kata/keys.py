"""Which keys the releases' parsers know, with type, default and what other shipped configurations use.

It matters since the runtime ignores an unknown key of its main file without a word.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from vmtool.architecture import AMD64
from vmtool.frozen import dataclass
from vmtool.kata.base import PREFIX, known_base
from vmtool.rendering import to_toml
from vmtool.spec.kata_releases import HYPERVISORS, Release, releases

ARCH = AMD64.machine


@dataclass(frozen=True)
class Key:
    """A key.

    Args:
        section: such as "hypervisor.qemu".
        type: as the newest release that knows it has it: bool, string, float32, uint32, "array of string" and the like.
        known: names of the releases whose parser knows it.
        default: of the newest one's plain QEMU configuration, as TOML; empty when that has none.
        variants: (configuration, value as TOML) where another shipped one differs.
    """

    section: str
    name: str
    type: str
    known: tuple[str, ...]
    default: str
    variants: tuple[tuple[str, str], ...]


@functools.cache
def read_keys() -> tuple[Key, ...]:
    """Every key of every release, of what QEMU reads."""
    rows = releases()
    places = dict.fromkeys((section, name) for row in reversed(rows) for section, table in row.keys.items()
                           if section != HYPERVISORS for name in table)
    return tuple(_key(section, name, [row for row in rows if row.knows(section, name)])
                 for section, name in sorted(places, key=lambda place: (_order(place[0]), place[1])))


def _order(section: str) -> tuple[int, str]:
    return (not section.startswith("hypervisor"), section)


def _key(section: str, name: str, known: list[Release]) -> Key:
    newest = known[-1]
    values = {file: value for file in newest.shipped.get(ARCH, {})
              if (value := _shipped(newest, file).get(section, {}).get(name)) is not None}
    default = values.get("qemu")
    variants = tuple((file, to_toml(value)) for file, value in values.items() if value != default)
    return Key(section, name, newest.keys[section][name], tuple(row.name for row in known),
               "" if default is None else to_toml(default), variants)


@functools.cache
def _shipped(release: Release, file: str) -> Any:
    base = known_base(release, file, ARCH, PREFIX)
    return base.values if base else {}


def knowing(section: str, name: str) -> Iterator[str]:
    """The names of the releases that know the key."""
    return (row.name for row in releases() if row.knows(section, name))


def nearest(release: Release, section: str, name: str) -> str:
    """What was probably meant: a key of the same section, else of another one ("runtime.vfio_mode"); or empty."""
    import difflib  # few files have an unknown key

    here = difflib.get_close_matches(name[:80], release.keys.get(section, ()), n=1, cutoff=0.75)
    if here:
        return here[0]
    return next((f"{other}.{name}" for other, table in release.keys.items() if name in table), "")
