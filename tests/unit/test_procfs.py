"""What /proc says of a process."""

from __future__ import annotations

import pytest

from tests.fakes.threads import stat
from vmtool.procfs import start_of, state_of


@pytest.mark.parametrize(("text", "started"), [
    (stat(7, "S", 1), "77"), (stat(7, "D", 9), "77"), (stat(7, "Z", 1), None), (stat(7, "Z", 0), None),
    (stat(7, "Z", 2), "77"), (stat(7, "X", 0), None), ("", None), ("7 (a) S 1", None)])
def test_a_process_has_ended_when_its_last_thread_has(text: str, started: str | None) -> None:
    assert start_of(text) == started


def test_a_state_stands_behind_the_programs_name() -> None:
    assert [state_of(text) for text in (stat(7, "R"), "7 (x) D 1", "7 (x)", "")] == ["R", "D", "", ""]
