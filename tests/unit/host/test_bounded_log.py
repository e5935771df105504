"""Logs of a bounded size: both ends stay, and whoever writes or follows notices nothing."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from vmtool.host import bounded_log

KIB = 1 << 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HEAD", 64 * KIB), ("TAIL", 256 * KIB), ("MOST", 576 * KIB)):
        monkeypatch.setattr(bounded_log, name, value)


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_log_that_grows_without_end_takes_no_more_than_that(tmp_path: Path) -> None:
    path, told = tmp_path / "log", list[int]()
    with path.open("ab", buffering=0) as writer:
        for number in range(1000):
            writer.write(f"{number:08}\n".encode() * 1000)
            bounded_log.bound(path, lambda: told.append(taken(path)))
            assert taken(path) <= bounded_log.MOST + 16 * KIB
    data = path.read_bytes()
    assert len(data) == 9_000_000, "offsets stay"
    assert data.startswith(b"00000000\n" * 1000)
    assert data.endswith(b"00000998\n" * 1000 + b"00000999\n" * 1000)
    assert min(told) > bounded_log.MOST


def test_a_small_one_a_missing_one_and_what_is_no_file_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * (100 * KIB))
    (tmp_path / "other").write_bytes(b"x" * (2000 * KIB))
    (tmp_path / "link").symlink_to("other")
    os.mkfifo(tmp_path / "fifo")
    for name in ("small", "none", "link", "fifo", "."):
        assert not bounded_log.bound(tmp_path / name)
    assert taken(tmp_path / "other") >= 2000 * KIB


def fallocate_fails(patch: pytest.MonkeyPatch, number: int) -> None:
    def fallocate(*words: int) -> int:
        ctypes.set_errno(number)
        return -1

    patch.setattr(ctypes, "CDLL", lambda *words, **more: SimpleNamespace(fallocate=fallocate))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EINTR, errno.EIO, errno.EPERM, errno.ETXTBSY])
def test_what_cannot_be_freed_just_now_loses_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * (1000 * KIB) + b"last\n")
    fallocate_fails(monkeypatch, number)
    bounded_log.bound(path)
    assert path.read_bytes().endswith(b"last\n")
    assert path.stat().st_size == 1000 * KIB + 11


def test_on_a_file_system_without_holes_the_beginning_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"first\n" + b"x" * (1000 * KIB))
        fallocate_fails(monkeypatch, errno.EOPNOTSUPP)
        assert bounded_log.bound(path)
        writer.write(b"last\n")
    assert path.stat().st_size == 64 * KIB + 5
    assert path.read_bytes().startswith(b"first\n")
    assert path.read_bytes().endswith(b"last\n")
