"""Findings of whatever check: which error they become, and that nothing of vmtool decides by their words."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
