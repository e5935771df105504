"""Asking the agent over its socket: a socket that is not there, and an answer that does not matter."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from vmtool.errors import ProgramFailed
from vmtool.host import daemons
from vmtool.libvirt import guest_agent
from vmtool.libvirt.guest_agent import ask, main
from vmtool.plan import AskGuest


@pytest.fixture
def action(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AskGuest:
    monkeypatch.setattr(daemons, "living", lambda pidfile: 7)
    (tmp_path / "console").write_text("Kernel panic\n")
    return AskGuest(tmp_path / "agent", "report", tmp_path / "pid", tmp_path / "console", deadline=5.0)


def test_a_socket_that_is_not_there_is_told_with_the_console(action: AskGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ProgramFailed, match=r"asked for report, .*agent: No such file") as error:
        ask(action)
    assert error.value.details == ("Kernel panic",)
    assert ask(replace(action, fleeting=True)) == "", "a guest that is to end may have ended"


def refuse(self: socket.socket, address: str) -> None:
    raise FileNotFoundError(2, "No such file or directory", address)


def test_a_guest_that_does_not_answer_matters_only_when_it_must(action: AskGuest,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*args: object) -> str:
        raise ProgramFailed("did not answer")

    monkeypatch.setattr(socket.socket, "connect", lambda self, address: None)
    monkeypatch.setattr(guest_agent, "converse", silent)
    assert ask(replace(action, fleeting=True)) == ""
    with pytest.raises(ProgramFailed):
        ask(action)


def test_the_program_prints_the_report_or_says_why_not(action: AskGuest, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(action.channel), str(action.pidfile), str(action.console)]
    monkeypatch.setattr(guest_agent, "ask", lambda asked: f"asked {asked.verb}\n")
    main(words)
    assert capsys.readouterr().out == "asked report\n"
    monkeypatch.undo()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(SystemExit, match="No such file"):
        main(words)
