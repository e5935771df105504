"""Keys, sections and types: what the runtime ignores in silence, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmtool.findings import Finding
from vmtool.kata.keys import Key, find_key, known_sections, nearest
from vmtool.kata.lint.rules import QEMU, Subject

BITS = {"uint": 64, "uint32": 32, "uint64": 64}
# Old keys that guides still show.
REMOVED = {"hotplug_vfio_on_root_bus": "it no longer exists; use hot_plug_vfio or cold_plug_vfio"}
TABLES = "array of tables"


def key_findings(subject: Subject) -> Iterator[Finding]:
    """Every table of the document, one after the other."""
    release = subject.release.keys
    if not isinstance(subject.document.section(QEMU), dict) or not subject.document.section(QEMU):
        yield subject.finding("section.missing", QEMU, "", "there is no [hypervisor.qemu]",
                              "vmtool kata render SPEC makes a whole file")
    for section, table in _tables(subject.document.values):
        if section in known_sections(release):
            for name, value in table.items():
                yield from _key(subject, section, name, value)
        elif table and not any(known.startswith(f"{section}.") for known in known_sections(release)):
            yield subject.finding("section.unknown", section, "", f"nothing of Kata {subject.release.name} that vmtool "
                                  f"knows reads [{section}]", "remove it, or correct the name")


def _tables(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Sections by their dotted names, each with what is a key of it."""
    inner = {name: value for name, value in values.items() if isinstance(value, dict)}
    own = {name: value for name, value in values.items() if name not in inner}
    if above or own:
        yield above, own
    for name, value in inner.items():
        section = f"{above}.{name}".lstrip(".")
        yield from _tables(value, section)
    for name, value in own.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield from ((f"{above}.{name}".lstrip("."), item) for item in value)


def _key(subject: Subject, section: str, name: str, value: Any) -> Iterator[Finding]:
    key, release = find_key(section, name), subject.release
    if key and release.keys in key.known:
        yield from _type(subject, key, value)
    elif key:
        yield subject.finding("key.other-release", section, name, f"Kata {release.name} ignores {name}, which only "
                              f"{', '.join(key.known)} know{'s' * (len(key.known) == 1)}", "remove it")
    else:
        near = nearest(release.keys, section, name)
        hint = REMOVED.get(name) or (f"did you mean {near}?" if near else "remove it")
        refused = (*section.split("."), name) in subject.document.drop_ins and section.split(".")[0] in (
            "hypervisor", "agent")
        rule, does = ("key.drop-in", "refuses, in a drop-in, the unknown") if refused else ("key.unknown", "ignores")
        yield subject.finding(rule, section, name, f"Kata {release.name} {does} {name}", hint)


def _type(subject: Subject, key: Key, value: Any) -> Iterator[Finding]:
    if not fits(key.type, value):
        yield subject.finding("type.wrong", key.section, key.name, f"{key.name} is {_called(value)}, not "
                              f"{_wanted(key.type)}", f"write it as {_example(key)}")
    elif key.type in BITS and not 0 <= value < 1 << BITS[key.type]:
        yield subject.finding("type.range", key.section, key.name, f"the value of {key.name} does not fit "
                              f"{key.type}", f"write a number from 0 to {(1 << BITS[key.type]) - 1}")


def fits(kind: str, value: Any) -> bool:
    """Whether a TOML value has a Go type, as the runtime's TOML library takes it."""
    if kind == "bool":
        return isinstance(value, bool)
    if kind in BITS or kind == "float":
        return isinstance(value, int | float if kind == "float" else int) and not isinstance(value, bool)
    if kind.startswith("array"):
        inner = dict if kind == TABLES else str
        return isinstance(value, list) and all(isinstance(item, inner) for item in value)
    return isinstance(value, str)


def _called(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a fraction", str: "a string", list: "a list"}
    return names.get(type(value), "something else")


def _wanted(kind: str) -> str:
    return {"bool": "a boolean", "float": "a number", "array of string": "a list of strings"}.get(
        kind, "a whole number" if kind in BITS else f"an {kind}" if kind == TABLES else "a string")


def _example(key: Key) -> str:
    example = {"bool": "true", "float": "1", "array of string": '["..."]'}.get(
        key.type, "1" if key.type in BITS else '"..."')
    return f"{key.name} = {key.default or example}"
