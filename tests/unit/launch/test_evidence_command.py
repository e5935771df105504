"""`vmtool attest evidence` without -o: the server's bytes, which must not steer a terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.unit.connect.cases import KEY, NONCE, answer
from vmtool.attest.server import fetch
from vmtool.attest.server.fetch import Answered
from vmtool.attest.server.place import Place
from vmtool.cli.main import vmtool
from vmtool.launch.commands import find_server


class Screen(io.TextIOWrapper):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_it_is_whole_in_a_file_and_harmless_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          terminal: bool) -> None:
    data = answer().replace(b'"note": "', '"note": "\x9b2J'.encode())
    assert "\x9b" in data.decode()

    async def fetched(*given: object) -> Answered:
        return Answered(data, NONCE, KEY)

    monkeypatch.setattr(fetch, "fetch", fetched)
    monkeypatch.setattr(find_server, "find_server", lambda *given, **more: Place("a", 1, None))
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    vmtool.main(["--state-dir", str(tmp_path), "attest", "evidence", "a"], standalone_mode=False)
    screen.flush()
    shown = screen.buffer.getvalue()  # type: ignore[attr-defined]
    assert (shown == data) != terminal and ("\x9b" in shown.decode()) != terminal
