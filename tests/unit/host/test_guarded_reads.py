"""A child that is late and one that hangs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.threads import stat
from vmtool.host.guarded_reads import read_with_deadline


class Child:
    """One that reads a file for its parent, of which only the pipe and its state are there.

    Args:
        state: in which it is seen.
        looks: how many times, until it answers; 0 for never.
    """

    def __init__(self, state: str, looks: int, patch: pytest.MonkeyPatch) -> None:
        self.state, self.looks, self.seen, self.killed = state, looks, 0, list[int]()
        self.start, end = os.pipe()
        self.end = os.dup(end)
        patch.setattr(os, "pipe", lambda: (self.start, end))
        patch.setattr(os, "fork", lambda: 4242)
        patch.setattr(os, "waitpid", lambda pid, flags: (0, 0))
        patch.setattr(os, "kill", lambda pid, number: self.killed.append(pid))
        patch.setattr(Path, "read_text", lambda path, errors: self.look(path))

    def look(self, path: Path) -> str:
        assert path == Path("/proc/4242/stat")
        self.seen += 1
        if self.seen == self.looks:
            os.write(self.end, b'"text"\n')
            os.close(self.end)
        return stat(4242, self.state)


def unused(path: str) -> Any:
    raise AssertionError("the child reads")


@pytest.mark.parametrize(("state", "looks", "found", "seen"), [
    ("R", 3, {"/sys/a": "text"}, 3), ("R", 0, {}, 10), ("S", 3, {}, 1), ("D", 3, {}, 1),
    ("D", 1, {"/sys/a": "text"}, 1)],
    ids=["late", "too late", "waits", "hangs", "in the last moment"])
def test_a_reader_that_waits_for_a_processor_only_is_late_and_does_not_hang(
        monkeypatch: pytest.MonkeyPatch, state: str, looks: int, found: dict[str, str], seen: int) -> None:
    child = Child(state, looks, monkeypatch)
    assert read_with_deadline(["/sys/a"], unused, 0.001) == found
    assert (child.seen, child.killed) == (seen, [] if found else [4242])
