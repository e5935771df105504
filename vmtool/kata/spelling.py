"""Keys in any letter case: the runtime's TOML reader takes an exact name first, then one that differs in case only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmtool.kata.toml_lines import KeyPath

TOP = ("hypervisor", "agent", "runtime", "factory", "image")
# Tables that are named by whoever writes the file: hypervisor.qemu, agent.kata.
NAMED = ("hypervisor", "agent")


class Spelling:
    """The release's spelling of what a file says.

    Args:
        keys: section -> key -> type; without any, everything stays as it is written.
    """

    def __init__(self, keys: Mapping[str, Mapping[str, str]]) -> None:
        self.keys = keys
        self.respelled: set[KeyPath] = set()
        self.twice: set[KeyPath] = set()
        self.tables: set[KeyPath] = set()
        self.cache: dict[KeyPath, dict[str, str]] = {}

    def spell(self, values: Mapping[str, Any], above: KeyPath = ()) -> dict[str, Any]:
        """The same values by the release's keys."""
        found: dict[str, Any] = {}
        for written, value in values.items():
            name = self._name(above, written)
            place = (*above, name)
            if name != written:
                self.respelled.add(place)
            value = self.spell(value, place) if isinstance(value, dict) else value
            if name in found and isinstance(found[name], dict) and isinstance(value, dict):
                # The runtime reads both, in no order: a key, or a named table, that is in both is one of them.
                self.tables |= {(*place, inner) for inner in found[name].keys() & value.keys()
                               if found[name][inner] != value[inner]}
                value = found[name] | value
            elif name in found and found[name] != value:
                self.twice.add(place)
            found[name] = value
        return found

    def path(self, path: KeyPath) -> KeyPath:
        """A place by the release's names."""
        spelled: KeyPath = ()
        for part in path:
            spelled += (self._name(spelled, part),)
        return spelled

    def _name(self, above: KeyPath, written: str) -> str:
        if above not in self.cache:
            self.cache[above] = self._known(above)
        known = self.cache[above]
        return written if written in known else known.get(fold(written), written)

    def _known(self, above: KeyPath) -> dict[str, str]:
        """Folded -> as the release spells it, of what may stand in this table."""
        if not self.keys:
            return {}
        if not above:
            names = [name for name in TOP if name != "image" or name in self.keys]
        elif above[0] in NAMED:
            section = {"hypervisor": ("hypervisor.qemu", "hypervisor.*"), "agent": ("agent.kata",)}[above[0]]
            names = [key for name in section for key in self.keys.get(name, {})] if len(above) == 2 else []
        else:
            names = list(self.keys.get(above[0], ())) if len(above) == 1 else []
        return {fold(name): name for name in names}


def fold(name: str) -> str:
    """As Go's strings.EqualFold compares: a letter at a time, the long s and the Kelvin sign with them."""
    if name.isascii():
        return name.lower()
    return "".join(letter.casefold() if len(letter.casefold()) == 1 else letter for letter in name)
