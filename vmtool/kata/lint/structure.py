"""Tables: which hypervisor, which agent, and what stands where a table belongs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmtool.findings import Finding
from vmtool.kata.lint.target import QEMU, LintTarget

# What the runtime's table of hypervisors has.
HYPERVISORS = ("qemu", "clh", "firecracker", "dragonball", "remote")
STRATOVIRT, ACRN = "stratovirt", "acrn"
STRATOVIRT_SINCE = WITHOUT_ACRN = (3, 3)
NAMED = ("hypervisor", "agent")
STRUCTS = ("runtime", "factory")


def hypervisors(target: LintTarget) -> dict[str, Any]:
    found = target.document.values.get("hypervisor")
    return found if isinstance(found, dict) else {}


def known_hypervisors(target: LintTarget) -> tuple[str, ...]:
    """Of the release."""
    version = target.release.version
    return (*HYPERVISORS, *([STRATOVIRT] if version >= STRATOVIRT_SINCE else []),
            *([ACRN] if version < WITHOUT_ACRN else []))


def other_hypervisor(target: LintTarget) -> str:
    """The one hypervisor of a file that is not QEMU's; empty otherwise."""
    names = list(hypervisors(target))
    return names[0] if len(names) == 1 and names[0] in known_hypervisors(target)[1:] else ""


def structure_findings(target: LintTarget) -> Iterator[Finding]:
    """All of them."""
    yield from _tables(target)
    yield from _hypervisors(target)
    agents = target.document.values.get("agent")
    if isinstance(agents, dict) and len(agents) > 1:
        names = list(agents)
        yield target.finding("agent.several", f"agent.{names[1]}", "", f"[agent.{'], [agent.'.join(names)}]: the "
                             "runtime takes one by chance", f"keep one of them: remove [agent.{names[1]}]")
    for path in sorted(target.document.twice):
        yield target.finding("key.twice", ".".join(path[:-1]), path[-1], f"{path[-1]} is there in two spellings with "
                             "two values; the runtime takes one by chance", "remove one of them")
    for path in sorted(target.document.tables):
        yield target.finding("key.twice", ".".join(path[:-1]), path[-1], f"{path[-1]} is in two tables that differ in "
                             "letter case only; the runtime takes one by chance", "remove one of them", "warn")


def _tables(target: LintTarget) -> Iterator[Finding]:
    values = target.document.values
    for name in NAMED:
        if name in values and not isinstance(values[name], dict):
            yield target.finding("section.ignored", name, "", f"{name} is no table, so the runtime passes it over",
                                 f"write [{name}.{'qemu' if name == 'hypervisor' else 'kata'}]")
        for inner, table in values[name].items() if isinstance(values.get(name), dict) else ():
            if not isinstance(table, dict):
                yield target.finding("section.scalar", f"{name}.{inner}", "", f"{name}.{inner} is no table",
                                     f"write [{name}.{inner}], and its keys below it")
    structs = (*STRUCTS, *(["image"] if "image" in target.release.keys else []))
    for name in structs:
        if name in values and not isinstance(values[name], dict):
            yield target.finding("section.scalar", name, "", f"{name} is no table",
                                 f"write [{name}], and its keys below it")


def _hypervisors(target: LintTarget) -> Iterator[Finding]:
    names, known = list(hypervisors(target)), known_hypervisors(target)
    for name in names:
        if name not in known:
            yield target.finding("hypervisor.unknown", f"hypervisor.{name}", "", f"Kata {target.release.name} knows no "
                                 f"hypervisor {name[:40]!r}", f"it knows {', '.join(known)}")
    if len(names) > 1:
        yield target.finding("hypervisor.several", f"hypervisor.{names[1]}", "",
                             f"[hypervisor.{'], [hypervisor.'.join(names)}]: the runtime takes one by chance",
                             f"keep one of them: remove [hypervisor.{names[1]}]")
    if not other_hypervisor(target) and not target.document.section(QEMU):
        yield target.finding("section.missing", QEMU, "", "there is no [hypervisor.qemu]",
                             "vmtool kata render SPEC makes a whole file")
