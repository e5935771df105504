"""Keys, sections and types: what the runtime ignores in silence, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from vmtool.architecture import AMD64
from vmtool.findings import Finding
from vmtool.kata.keys import knowing, nearest
from vmtool.kata.lint.target import AGENT, QEMU, LintTarget
from vmtool.spec.kata_releases import HYPERVISORS

BITS = {"uint": 64, "uint32": 32, "uint64": 64}
SIGNED = {"int32": 31, "int64": 63}
INTEGER = range(-(1 << 63), 1 << 63)
# The runtime keeps a fraction in 32 bits, and takes whole numbers only that these hold exactly.
SAFE, LARGEST = (1 << 24) - 1, 3.4028234663852886e38
# Old keys that guides, and configurations that releases ship, still show.
REMOVED = {"hotplug_vfio_on_root_bus": "it no longer exists; use hot_plug_vfio or cold_plug_vfio"}
TABLES = "array of tables"
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
            told = f"[{name}]" if isinstance(value, dict) else name
            yield target.finding("section.unknown", name, "", f"nothing of Kata {target.release.name} that vmtool "
                                 f"knows reads {told[:60]}", "remove it, or correct the name")


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
        yield from _type(target, section, name, str(kind or other), value)
    if other and not kind:
        yield target.finding("key.other-hypervisor", section, name, f"QEMU does not read {name}", "remove it")
    if kind or other:
        return
    yield from _integers(target, section, name, value)
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


def _integers(target: LintTarget, section: str, name: str, value: Any) -> Iterator[Finding]:
    """A number that no reader of TOML takes keeps the shim from starting, wherever it stands."""
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else (value,)
    if any(isinstance(item, int) and item not in INTEGER for item in inner):
        yield target.finding("type.range", section, name, f"{name[:80]} is beyond 64 bits, which no TOML holds",
                             "write a smaller number")


def key_type_findings(target: LintTarget, section: str, name: str, value: Any) -> Iterator[Finding]:
    """Of a key that the release knows."""
    yield from _type(target, section, name, target.release.keys[section][name], value)


def _type(target: LintTarget, section: str, name: str, kind: str, value: Any) -> Iterator[Finding]:
    if not fits(kind, value):
        yield target.finding("type.wrong", section, name, f"{name} is {_called(value)}, not {_wanted(kind)}",
                             f"write it as {name} = {_example(target, section, name, kind)}")
    elif (most := _beyond(kind, value)) is not None:
        yield target.finding("type.range", section, name, f"the value of {name} does not fit {kind}",
                             f"write a number from 0 to {most}")


def _beyond(kind: str, value: Any) -> int | None:
    """The largest value of the type where this one is out of its range. Go wraps a negative number of 64 bits."""
    if kind in ("uint", "uint64"):
        return None if value in INTEGER else (1 << 63) - 1
    if kind == "uint32":
        return None if 0 <= value < 1 << 32 else (1 << 32) - 1
    if kind in SIGNED:
        most = 1 << SIGNED[kind]
        return None if -most <= value < most else most - 1
    if kind == "float32":
        held = abs(value) <= SAFE if isinstance(value, int) else math.isnan(value) or abs(value) <= LARGEST
        return None if held else SAFE
    return None


def fits(kind: str, value: Any) -> bool:
    """Whether a TOML value has a Go type, as the runtime's TOML library takes it."""
    if kind == "bool":
        return isinstance(value, bool)
    if kind in BITS or kind in SIGNED or kind == "float32":
        return isinstance(value, int | float if kind == "float32" else int) and not isinstance(value, bool)
    if kind.startswith("array"):
        inner = dict if kind == TABLES else str
        return isinstance(value, list) and all(isinstance(item, inner) for item in value)
    return isinstance(value, str)


def _called(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a fraction", str: "a string", list: "a list", dict: "a table"}
    return names.get(type(value), "something else")


def _wanted(kind: str) -> str:
    whole = kind in BITS or kind in SIGNED
    return {"bool": "a boolean", "float32": "a number", "array of string": "a list of strings"}.get(
        kind, "a whole number" if whole else f"an {kind}" if kind == TABLES else "a string")


def _example(target: LintTarget, section: str, name: str, kind: str) -> str:
    from vmtool.rendering import to_toml

    shipped = target.release.shipped.get(AMD64.machine, {}).get("qemu", {}).get("set", {}).get(section, {}).get(name)
    if shipped is not None:
        return to_toml(shipped)
    return {"bool": "true", "float32": "1", "array of string": '["..."]', TABLES: '[{name = "...", path = "/..."}]'
            }.get(kind, "1" if kind in BITS or kind in SIGNED else '"..."')
