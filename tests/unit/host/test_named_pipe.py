"""A program's standard input from a named pipe: waited for, but not without end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from vmtool.errors import ProgramFailed
from vmtool.host.processes import _readable


def test_a_pipe_that_nobody_writes_to_is_no_wait_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ProgramFailed, match="nobody wrote to this pipe"):
        _readable(tmp_path / "pipe", 0.05)


def test_what_is_written_to_it_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    data = b"key" * 10_000
    writes = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data), daemon=True)
    writes.start()
    with _readable(tmp_path / "pipe", 30.0) as file:
        assert b"".join(iter(lambda: file.read(65536), b"")) == data
    writes.join(10)


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"key")
    with _readable(tmp_path / "file", 0.0) as file:
        assert file.read() == b"key"
