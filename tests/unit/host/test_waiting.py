"""What is taken of a program's output for the event that says why it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmtool.host.waiting import Job


@pytest.mark.parametrize(("text", "words"), [
    ("error: a cannot be launched\n  spec.x: no\n  spec.y: no\n  spec.z: no\nhint: h\n",
     "a cannot be launched; spec.x: no; spec.y: no"),
    ("begun\nerror: busy\nhint: wait\n", "busy"), ("a\nTraceback\nKeyError: 7\n", "KeyError: 7"), ("", ""),
    ("x" * 9000, "x" * 400)])
def test_the_last_words_are_an_error_with_its_first_details(tmp_path: Path, text: str, words: str) -> None:
    job = Job.__new__(Job)
    job.log = tmp_path / "log"
    job.log.write_text(text)
    assert job.last_words() == words


def test_a_log_that_is_gone_says_nothing(tmp_path: Path) -> None:
    job = Job.__new__(Job)
    job.log = tmp_path / "absent"
    assert job.last_words() == ""
