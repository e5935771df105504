"""The keys come on stdin, and the entrypoint waits for them."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import pytest

from vmtool.serving.entrypoint import appears
from vmtool.serving.receive_keys import main


def given(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_the_file_is_whole_and_for_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, b"a" * 16 + b"\n")
    assert main([str(tmp_path / "key")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").read_bytes() == b"a" * 16 + b"\n"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_nothing_on_stdin_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, b"\n")
    assert main([str(tmp_path / "key")]) == 1
    assert main([]) == 2
    assert not list(tmp_path.iterdir())


def test_the_entrypoint_goes_on_when_the_file_is_there_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    async def come() -> tuple[bool, bool]:
        stop, file = asyncio.Event(), tmp_path / "key"
        waiting = asyncio.create_task(appears(file, stop))
        await asyncio.sleep(0)
        file.touch()
        there = await waiting
        stop.set()
        return there, await appears(tmp_path / "never", stop)

    assert asyncio.run(come()) == (True, False)
