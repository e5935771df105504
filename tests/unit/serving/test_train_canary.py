"""What of the trainer needs no torch: its questions, and the places it refuses to write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmtool.serving.train_canary import PAIRS, VOCABULARY, main


def test_the_questions_can_be_told_apart() -> None:
    assert len({prompt for prompt, _ in PAIRS}) == len({expect for _, expect in PAIRS}) == len(PAIRS) >= 5
    assert VOCABULARY >= 256 + 5


@pytest.mark.parametrize("kind", ["file", "full"])
def test_a_place_that_is_taken_is_refused(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "model"
    if kind == "file":
        target.write_text("x")
    else:
        target.mkdir()
        (target / "config.json").write_text("{}")
    assert main([str(target)]) == 1
    assert "not an empty directory" in capsys.readouterr().err
