"""Keys, sections and types: what the runtime ignores in silence, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmtool.findings import Finding
from vmtool.kata.keys import knowing, nearest
from vmtool.kata.lint.target import AGENT, QEMU, LintTarget
from vmtool.kata.lint.types import INTEGER, type_findings
from vmtool.spec.kata_releases import HYPERVISORS

# Old keys that guides, and configurations that releases ship, still show.
REMOVED = {"hotplug_vfio_on_root_bus": "it no longer exists; use hot_plug_vfio or cold_plug_vfio"}
# Comparing an unknown name with every known one takes a while, so of a file of nothing else only these are explained.
EXPLAINED = 100


def key_findings(target: LintTarget) -> Iterator[Finding]:
    """Every table of the document, one after the other."""
    yield from _drop_ins(target)
    explained = 0
    for section, known, table in _sections(target):
        for name, value in table.items():
            for finding in _key(target, section, known, name, value, explain=explained < EXPLAINED):
                explained += finding.id == "key.unknown"
                yield finding
    yield from _unread(target)
    yield from _integers(target)


def _sections(target: LintTarget) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Tables that the release reads: by which name they stand there, whose keys they have, and their content."""
    values = target.document.values
    agents = values.get("agent")
    names = [(f"agent.{name}", AGENT) for name in agents] if isinstance(agents, dict) else []
    for section, known in ((QEMU, QEMU), *names, *((name, name) for name in ("runtime", "factory", "image"))):
        if known in target.release.keys and isinstance(_table(values, section), dict):
            yield section, known, _table(values, section)
    extensions = f"{QEMU}.guest_extension_images"
    images = target.get(QEMU, "guest_extension_images")
    if extensions in target.release.keys and isinstance(images, list):
        yield from ((extensions, extensions, item) for item in images if isinstance(item, dict))


def _table(values: Any, section: str) -> Any:
    for part in section.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _unread(target: LintTarget) -> Iterator[Finding]:
    for name, value in target.document.values.items():
        if name not in ("hypervisor", "agent", "runtime", "factory", *target.release.keys):
            shown = f"[{name}]" if isinstance(value, dict) else name
            yield target.finding("section.unknown", name, "", f"nothing of Kata {target.release.name} that vmtool "
                                 f"knows reads {shown[:60]}", "remove it, or correct the name")


def _drop_ins(target: LintTarget) -> Iterator[Finding]:
    """In a drop-in, hypervisor and agent are applied key by key, by their exact names."""
    for path in sorted(target.document.respelled & target.document.drop_ins):
        if len(path) == 1 and path[0] in ("hypervisor", "agent"):
            yield target.finding("drop-in.table", path[0], "", f"a drop-in's [{path[0]}] in other letter case is read, "
                                 "and its keys are thrown away", f"write [{path[0]}...] in lower case")
        elif len(path) == 3 and path[0] in ("hypervisor", "agent"):
            yield target.finding("key.drop-in", ".".join(path[:2]), path[2], f"Kata refuses, in a drop-in, {path[2]} "
                                 "in other letter case", f"write {path[2]}")


def _key(target: LintTarget, section: str, known: str, name: str, value: Any, *, explain: bool) -> Iterator[Finding]:
    release = target.release
    kind = release.keys[known].get(name)
    other = release.keys[HYPERVISORS].get(name) if known == QEMU else None
    if kind or other:
        yield from type_findings(target, section, name, str(kind or other), value)
    if other and not kind:
        yield target.finding("key.other-hypervisor", section, name, f"QEMU does not read {name}", "remove it")
    if kind or other:
        return
    elsewhere = [row for row in knowing(known, name) if row != release.name]
    refused = (*section.split("."), name) in target.document.drop_ins and section.split(".")[0] in (
        "hypervisor", "agent")
    if isinstance(value, dict) and not refused:
        yield target.finding("section.unknown", f"{section}.{name}", "", f"nothing of Kata {release.name} reads "
                             f"[{section}.{name[:60]}]", "remove it, or correct the name")
    elif refused:
        yield target.finding("key.drop-in", section, name, f"Kata {release.name} refuses, in a drop-in, the unknown "
                             f"{name[:80]}", _hint(target, known, name, explain))
    elif elsewhere or name in REMOVED:
        who = f", which only {', '.join(elsewhere)} know{'s' * (len(elsewhere) == 1)}" if elsewhere else ""
        yield target.finding("key.other-release", section, name, f"Kata {release.name} ignores {name}{who}",
                             REMOVED.get(name, "remove it"))
    else:
        yield target.finding("key.unknown", section, name, f"Kata {release.name} ignores {name[:80]}",
                             _hint(target, known, name, explain))


def _hint(target: LintTarget, known: str, name: str, explain: bool) -> str:
    near = nearest(target.release, known, name) if explain else ""
    return f"did you mean {near}?" if near else "remove it"


def _integers(target: LintTarget) -> Iterator[Finding]:
    """A number that no reader of TOML takes keeps the shim from starting, wherever it stands."""
    known = {(*section.split("."), name) for section, of, table in _sections(target) for name in table
             if name in target.release.keys[of]}
    for path in _beyond_64_bits(target.document.values, ()):
        if path not in known:
            *section, name = path
            yield target.finding("type.range", ".".join(section), name, f"{name[:80]} is beyond 64 bits, which no TOML "
                                 "holds", "write a smaller number")


def _beyond_64_bits(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where such a number is; of a list, the list's place."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _beyond_64_bits(inner, (*path, name))
    elif isinstance(value, list):
        yield from {place[:len(path)] for item in value for place in _beyond_64_bits(item, path)}
    elif isinstance(value, int) and value not in INTEGER:
        yield path
