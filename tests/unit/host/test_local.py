"""What the real machine gives to those who look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmtool.host.local import LocalMachine
from vmtool.machine import FilePiece


def test_a_piece_of_a_file_comes_with_the_size_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    host = LocalMachine()
    assert host.piece(str(tmp_path / "f"), 2, 3) == FilePiece(10, b"234")
    assert host.piece(str(tmp_path / "f"), 8, 99) == FilePiece(10, b"89")
    assert host.piece(str(tmp_path / "f"), 99, 1) == FilePiece(10, b"")
    assert host.piece(str(tmp_path / "absent"), 0, 1) is None


def test_nothing_is_read_of_a_pipe_or_a_directory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        piece = LocalMachine().piece(str(path), 0, 1)
        assert piece and piece.data == b""


@pytest.mark.parametrize("start", [-1, 1 << 62])
def test_a_place_that_no_file_has_is_no_error(tmp_path: Path, start: int) -> None:
    (tmp_path / "f").write_bytes(b"x")
    assert LocalMachine().piece(str(tmp_path / "f"), start, 1) == FilePiece(1, b"")
