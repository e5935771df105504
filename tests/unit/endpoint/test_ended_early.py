"""A container that ends by itself says why: what it refused is the error, not only its last lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from vmtool.endpoint.actions import WRITTEN, ended_early
from vmtool.errors import ProgramFailed, VerificationFailed, VmtoolError
from vmtool.serving.events import event_text


class Writing(FakeHost):
    """A host on which the last lines are still on their way to the log when the container has ended."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def tail(self, path: Path, lines: int = 30) -> list[str]:
        return self.lines if self.clock >= WRITTEN else []


def early(lines: list[str]) -> VmtoolError:
    return ended_early(Writing(lines), Path("/log"))


@pytest.mark.parametrize(("event", "what"), [
    ("model-refused", "the encrypted model is refused: the key does not open this file"),
    ("not-hardened", "the container is not hardened: the key does not open this file")])
def test_what_the_entrypoint_refused_is_the_error_with_its_own_exit_code(event: str, what: str) -> None:
    line = event_text(1.0, event, why="the key does not open this file")
    error = early([f"vmtool     0.31 s  {line}", "vmtool     0.31 s  more"])
    assert isinstance(error, VerificationFailed) and error.code == 4
    assert error.message == what


def test_anything_else_is_told_by_its_last_lines() -> None:
    error = early(["Traceback", 'vmtool 0.31 s  event {"at": 1, "event": "server-died"}'])
    assert isinstance(error, ProgramFailed) and "ended before it was healthy" in error.message


@pytest.mark.parametrize(("why", "page"), [
    ("no key for the model came from its broker: attest: the broker refused: AttestationError", "docs/key-broker.md"),
    ("the key does not open this file", "docs/encrypted-models.md")])
def test_the_hint_leads_to_whom_it_was_that_refused(why: str, page: str) -> None:
    error = early([f"vmtool     0.31 s  {event_text(1.0, 'model-refused', why=why)}"])
    assert isinstance(error, VerificationFailed) and error.hint and error.hint.startswith(page)
