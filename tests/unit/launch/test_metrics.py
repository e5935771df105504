"""What the metrics say of the canary's question."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from tests.unit.launch.cases import instance
from vmtool.metrics.facts import read_metrics


@pytest.mark.parametrize(("launch", "watch", "right", "asked"), [
    ("", "", None, None), (1, "", True, 1.0), (1, 2, False, 2.0), (2, 1, True, 2.0), ("", 1, None, None)],
    ids=["never asked", "at the launch", "by watch since", "by watch of the one before", "not asked by this launch"])
def test_the_newest_answer_counts_but_none_of_an_earlier_launch(
        tmp_path: Path, launch: float, watch: float, right: bool | None, asked: float | None) -> None:
    one = instance(tmp_path / "a")
    one.paths.evidence.mkdir(parents=True)
    for path, text, when in ((one.paths.canary, "true", launch), (one.paths.watched_canary, "false", watch)):
        if when:
            path.write_text(f'{{"right": {text}}}')
            os.utime(path, (when, when))
    found = read_metrics(FakeHost(), one)
    assert (found.canary, found.asked) == (right, asked)
