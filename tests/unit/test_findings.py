"""Findings of whatever check: which error they become, and that nothing of vmtool decides by their words."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sources import parsed
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.findings import Finding, finding, from_error, host_lacks, lines, refuse, wrong_input

TYPED = wrong_input("a.typed", "'x' is no address", "write it in full")
PLACED = wrong_input("a.placed", "is 17, at most 16", place="spec.ports")
BARE = host_lacks("h.bare", "binding needs root", "sudo vmtool")
SILENT = host_lacks("h.silent", "ip does not answer")
DOCTOR = Finding("kernel.overlayfs", "fail", "overlayfs", "not known", "modprobe overlay")
FINE = (finding("k.ok", "kernel", "ok", "6.1"), Finding("k.warn", "warn", "kernel", "old", "upgrade"),
        Finding("k.note", "note", "kernel", "new"), Finding("k.open", "not-checked", "kernel", "?", "look"))


@pytest.mark.parametrize(("findings", "hint", "kind", "message", "details", "shown"), [
    # One by itself becomes the message, and its hint the hint.
    ([TYPED], "", Refused, "nothing: 'x' is no address", (), "write it in full"),
    ([PLACED], "", Refused, "nothing: spec.ports: is 17, at most 16", (), ""),
    ([BARE], "", NotReady, "nothing: binding needs root", (), "sudo vmtool"),
    ([DOCTOR], "", NotReady, "nothing: overlayfs: not known", (), "modprobe overlay"),
    # Several are listed in their order, each with its hint; one wrong input is enough for Refused.
    ([BARE, TYPED], "", Refused, "nothing: 2 problems",
     ("binding needs root (sudo vmtool)", "'x' is no address (write it in full)"), ""),
    ([BARE, SILENT], "", NotReady, "nothing: 2 problems",
     ("binding needs root (sudo vmtool)", "ip does not answer"), ""),
    # With one hint for all, the message stays what it is.
    ([SILENT], "apt-get install iproute2", NotReady, "nothing", ("ip does not answer",), "apt-get install iproute2"),
    ([PLACED, DOCTOR], "correct the spec", Refused, "nothing",
     ("spec.ports: is 17, at most 16", "overlayfs: not known (modprobe overlay)"), "correct the spec"),
    ([BARE, DOCTOR], "sudo vmtool", NotReady, "nothing",
     ("binding needs root", "overlayfs: not known (modprobe overlay)"), "sudo vmtool"),
    # Equal ones count once, and only what fails counts.
    ([SILENT, SILENT], "", NotReady, "nothing: ip does not answer", (), ""),
    ([*FINE, SILENT, *FINE], "", NotReady, "nothing: ip does not answer", (), ""),
])
def test_what_fails_is_refused_together(findings: list[Finding], hint: str, kind: type[VmtoolError], message: str,
                                        details: tuple[str, ...], shown: str) -> None:
    with pytest.raises(VmtoolError) as error:
        refuse(iter(findings), "nothing", hint)
    assert type(error.value) is kind
    assert (error.value.message, error.value.details, error.value.hint) == (message, details, shown)


@pytest.mark.parametrize("hint", ["", "correct the spec"])
def test_what_does_not_fail_is_not_refused(hint: str) -> None:
    refuse((), "nothing", hint)
    refuse(FINE, "nothing", hint)


def test_the_hint_is_dropped_when_all_is_well() -> None:
    assert finding("a", "t", "ok", "d", "do it").hint == ""
    assert finding("a", "t", "warn", "d", "do it").hint == "do it"


@pytest.mark.parametrize(("error", "fault"), [
    (Refused("m", hint="h"), "input"), (NotReady("m", hint="h"), "host"), (VmtoolError("m", hint="h"), "host")])
def test_an_error_becomes_a_finding_with_its_fault(error: VmtoolError, fault: str) -> None:
    made = from_error("a.b", error, "spec.image")
    assert (made.id, made.level, made.fault) == ("a.b", "fail", fault)
    assert lines([made]) == ["spec.image: m (h)"]


def test_a_document_shows_five_fields_whatever_else_is_known() -> None:
    shown = {"id": "a", "level": "fail", "title": "t", "detail": "d", "hint": "h"}
    made = Finding("a", "fail", "t", "d", "h")
    assert made.as_json() == replace(made, place="p", fault="input").as_json() == shown


ROOT = Path(__file__).parents[2] / "vmtool"
TEXTS = frozenset({"message", "title", "detail"})
METHODS = frozenset({"startswith", "endswith", "partition", "rpartition", "split", "rsplit", "removeprefix",
                     "removesuffix", "find", "rfind", "index", "count"})
# Names of a type that would be a second Finding.
SECOND = frozenset({"Finding", "Problem", "Severity"})
# Where a text may be read after all: "file:attribute", and why.
READ: dict[str, str] = {}


def modules() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(ROOT)), parsed(path)) for path in sorted(ROOT.rglob("*.py"))]


def text_in(node: ast.AST) -> str:
    """The name when this is a text for a person, as it is, cut, or made lower; str(error) is one too."""
    match node:
        case ast.Attribute(attr=name) if name in TEXTS:
            return name
        case ast.Call(func=ast.Name("str"), args=[ast.Name(name)]) if name.endswith("error"):
            return "str"
        case ast.Call(func=ast.Attribute(attr=name, value=inner)) if name not in METHODS:
            return text_in(inner)
        case ast.Subscript(value=inner, slice=ast.Slice()):
            return text_in(inner)
    return ""


def decisions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a text is compared, searched or taken apart."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            found = [text_in(side) for side in (node.left, *node.comparators)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            matched = isinstance(node.func.value, ast.Name) and node.func.value.id in ("re", "fnmatch")
            found = [text_in(node.func.value)] if node.func.attr in METHODS else (
                [text_in(argument) for argument in node.args] if matched else [])
        elif isinstance(node, ast.Match):
            found = [text_in(node.subject)]
        else:
            continue
        yield from ((node.lineno, name) for name in found if name)


def test_nothing_is_decided_by_a_text_for_a_person() -> None:
    found = {f"{file}:{name}": line for file, tree in modules() for line, name in decisions(tree)}
    assert found.keys() == READ.keys(), "decide by an id, a level, a step's subjects or a field of the error"
    assert all(READ.values())


@pytest.mark.parametrize("line", [
    'error.message.startswith("x")', '"x" in finding.detail', 'step.title == "bind"', 're.search("x", error.message)',
    'error.message.partition(": ")[2]', '"x" not in item.title.lower()', 'error.message[:5] == "bind "',
    'match_it(step.title.strip().split()[0])', 'finding.detail != other.detail', '"x" in str(error)',
])
def test_the_rule_sees_how_a_text_could_decide(line: str) -> None:
    assert list(decisions(ast.parse(line)))


@pytest.mark.parametrize("line", [
    'print(f"{step.title}: {error.message}")', '", ".join(item.title for item in findings)', "len(item.title)",
    "item.title.ljust(9)", "print(str(error)[:200])", 'item.id == "net.bridge"', 'reader.text("/x").startswith("y")',
])
def test_the_rule_lets_a_text_be_shown(line: str) -> None:
    assert not list(decisions(ast.parse(line)))


def test_there_is_one_finding_and_one_claim() -> None:
    made = [(file, name) for file, tree in modules() for node in ast.walk(tree) for name in names_of(node)]
    assert [(file, name) for file, name in made if name in SECOND] == [("findings.py", "Finding")]
    assert [(file, name) for file, name in made if name in ("Claim", "Claims", "Verdict")] == [
        ("claims.py", "Verdict"), ("claims.py", "Claim")]


def names_of(node: ast.AST) -> list[str]:
    """The classes and aliases of types that a statement makes."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
