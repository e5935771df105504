"""A container that ends by itself says why: what it refused is the error, not only its last lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmtool.endpoint.actions import ended_early
from vmtool.errors import ProgramFailed, VerificationFailed
from vmtool.serving.events import event_text


@pytest.mark.parametrize(("event", "what"), [
    ("model-refused", "the encrypted model is refused: the key does not open this file"),
    ("not-hardened", "the container is not hardened: the key does not open this file")])
def test_what_the_entrypoint_refused_is_the_error_with_its_own_exit_code(event: str, what: str) -> None:
    line = event_text(1.0, event, why="the key does not open this file")
    error = ended_early([f"vmtool     0.31 s  {line}", "vmtool     0.31 s  more"], Path("/log"))
    assert isinstance(error, VerificationFailed) and error.code == 4
    assert error.message == what


def test_anything_else_is_told_by_its_last_lines() -> None:
    error = ended_early(["Traceback", 'vmtool 0.31 s  event {"at": 1, "event": "server-died"}'], Path("/log"))
    assert isinstance(error, ProgramFailed) and "ended before it was healthy" in error.message


@pytest.mark.parametrize(("why", "page"), [
    ("no key for the model came from its broker: attest: the broker refused: AttestationError", "docs/key-broker.md"),
    ("the key does not open this file", "docs/encrypted-models.md")])
def test_the_hint_leads_to_whom_it_was_that_refused(why: str, page: str) -> None:
    error = ended_early([f"vmtool     0.31 s  {event_text(1.0, 'model-refused', why=why)}"], Path("/log"))
    assert isinstance(error, VerificationFailed) and error.hint and error.hint.startswith(page)
