"""`vmtool logs` of long logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.typed import typed
from tests.unit.launch.cases import instance
from vmtool.launch.commands import logs


@pytest.mark.parametrize(("text", "shown"), [
    ("first\n" + "x" * 90 + "\nlast\n", "last\n"), ("first\n" + "x" * 200 + "THE END", "xxx" + "THE END"),
    ("x" * 200 + "THE END\n", "xx" + "THE END\n"), ("short", "short"), ("", "")],
    ids=["lines", "a line without an end", "one long line", "a short one", "an empty one"])
def test_of_a_long_log_the_end_is_shown_also_of_one_without_lines(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, shown: str) -> None:
    monkeypatch.setattr(logs, "TAIL", 80)
    monkeypatch.setattr(logs, "LONG_LINE", 10)
    one = instance(tmp_path / "a")
    one.paths.log.parent.mkdir(parents=True)
    one.paths.log.write_text(text)
    monkeypatch.setattr(logs, "read_known", lambda machine, state, name: one)
    assert typed(tmp_path, "logs", "a").stdout == shown
