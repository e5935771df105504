"""Marks, and who named himself in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmtool.host import daemons


def test_a_mark_that_becomes_final_while_it_is_read_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "stopped"
    mark.write_text("4194305 1\n")
    monkeypatch.setattr("vmtool.host.processes.start_time", lambda pid: None)
    assert not daemons.is_marked(mark), "its process has ended"

    def read(path: Path, most: int) -> bytes:
        data = path.read_bytes()[:most]
        path.write_bytes(b"")
        return data

    monkeypatch.setattr(daemons, "read_regular", read)
    assert daemons.is_marked(mark)
