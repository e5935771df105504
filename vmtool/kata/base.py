"""The configuration that a rendering stands on: the one that this release ships, installed on this host or known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmtool.frozen import dataclass
from vmtool.kata.document import parse, sections
from vmtool.machine import Reader
from vmtool.spec.kata_releases import Release

QEMU, AGENT, RUNTIME, IMAGE, FACTORY = "hypervisor.qemu", "agent.kata", "runtime", "image", "factory"
Sections = Mapping[str, Mapping[str, Any]]
PREFIX = "/opt/kata"
MIB = 1 << 20
# As release archives and packages have them, and as later versions of kata-deploy do.
PLACES = ("{prefix}/share/defaults/kata-containers/configuration-{name}.toml",
          "{prefix}/share/defaults/kata-containers/runtimes/{name}/configuration-{name}.toml")


@dataclass(frozen=True, eq=False)
class Base:
    """One shipped configuration.

    Args:
        values: section -> key -> value.
        source: the installed file, or the release's configuration by its name.
        content: of the installed file that was read on this host; None where the values are the release's own.
    """

    values: Sections
    source: str
    content: str | None = None

    @property
    def installed(self) -> bool:
        """Whether it was read on this host."""
        return self.content is not None

    @property
    def digest(self) -> str:
        """Of the file's bytes, or of the values: evidence of what was changed."""
        import hashlib  # rendering alone needs none of it
        import json

        text = json.dumps(self.values, sort_keys=True) if self.content is None else self.content
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, section: str, key: str) -> Any:
        return self.values.get(section, {}).get(key)

    def text(self, section: str, key: str) -> str:
        """A string; empty when it is absent or another type."""
        value = self.get(section, key)
        return value if isinstance(value, str) else ""


def known_base(release: Release, name: str, arch: str, prefix: str) -> Base | None:
    """What the release's own archive has for it; None where the row has none."""
    shipped = release.shipped.get(arch, {})
    if name not in shipped:
        return None
    values = {section: dict(table) for section, table in shipped["qemu"]["set"].items()}
    for place in shipped[name]["unset"]:
        section, _, key = place.rpartition(".")
        values.get(section, {}).pop(key, None)
    for section, table in shipped[name]["set"].items():
        values.setdefault(section, {}).update(table)
    moved = {section: {key: _moved(value, prefix) for key, value in table.items()} for section, table in values.items()}
    return Base(moved, f"configuration-{name}.toml of Kata {release.name} for {arch}")


def _moved(value: Any, prefix: str) -> Any:
    """A path below another prefix than the archive's own."""
    if isinstance(value, list):
        return [_moved(item, prefix) for item in value]
    inside = isinstance(value, str) and value.startswith(f"{PREFIX}/")
    return prefix + value.removeprefix(PREFIX) if inside else value


def installed_base(reader: Reader, release: Release, name: str, prefix: str) -> Base | None:
    """The file of that name on this host; None when there is none.

    Raises:
        Refused: it is not TOML, or no configuration of QEMU.
    """
    for place in PLACES:
        path = place.format(prefix=prefix, name=name)
        text = reader.text(path)
        if text is not None:
            document = parse(text, path, release.toml)
            return Base(sections(document.values), path, text)
    return None
