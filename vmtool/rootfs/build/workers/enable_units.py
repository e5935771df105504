"""Enabling systemd units in an image, as `systemctl enable` does: links out of their [Install] sections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmtool.errors import Refused

if TYPE_CHECKING:
    from vmtool.rootfs.build.workers.merge_layers import Layers

PLACES = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
SYSTEM = "/etc/systemd/system"


def enable(layers: Layers, units: Sequence[str]) -> None:
    """Link each unit to what wants it.

    Raises:
        Refused: a unit is not there, or cannot be enabled; each is named.
    """
    problems = []
    for unit in units:
        place, text = _find(layers, unit)
        wanted = _install(text)
        if not place:
            problems.append(f"units.enable: {unit} is in none of the packages, nor among the files")
        elif not any(wanted.values()):
            problems.append(f"units.enable: {unit} has no [Install] section that says what wants it")
        for kind, suffix in (("WantedBy", "wants"), ("RequiredBy", "requires")):
            for target in wanted.get(kind, ()):
                layers.add(f"{SYSTEM}/{target}.{suffix}/{unit}", link=f"/{place}/{unit}")
        for alias in wanted.get("Alias", ()):
            layers.add(f"{SYSTEM}/{alias}", link=f"/{place}/{unit}")
    if problems:
        raise Refused("units cannot be enabled", details=problems)


def _find(layers: Layers, unit: str) -> tuple[str, str]:
    """Directory and text of a unit's file; an instance has its template's."""
    template = re.sub(r"@[^.]+\.", "@.", unit)
    for place in PLACES:
        for name in (unit, template):
            data = layers.data(f"{place}/{name}")
            if data is not None:
                return place, data.decode(errors="replace")
    return "", ""


def _install(text: str) -> dict[str, list[str]]:
    """What the [Install] section names, by key."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == "[Install]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(key.strip(), []).extend(value.split())
    return found
