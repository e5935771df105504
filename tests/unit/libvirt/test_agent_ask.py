"""Asking the agent over its socket: a socket that is not there, and an answer that does not matter."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from vmtool.errors import ProgramFailed
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.guest_agent import ask
from vmtool.libvirt.workers import guest_report
from vmtool.machine import Channel


@pytest.fixture
def action(tmp_path: Path) -> GuestRequest:
    (tmp_path / "console").write_text("Kernel panic\n")
    (tmp_path / "pid").write_text("7 700\n")
    return GuestRequest(tmp_path / "agent", "report", tmp_path / "pid", tmp_path / "console", deadline=5.0)


def test_a_socket_that_is_not_there_is_told_with_the_console(action: GuestRequest) -> None:
    with pytest.raises(ProgramFailed, match=r"asked for report, .*agent: No such file") as error:
        ask(FakeHost(), action)
    assert error.value.details == ("Kernel panic",)
    assert ask(FakeHost(), replace(action, fleeting=True)) == "", "a guest that is to end may have ended"


class Silent(FakeHost):
    """Its guest takes what it is asked, and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = {7: "700"}
        self.ends = socket.socketpair()

    def connect(self, socket: Path) -> Channel:
        return self.ends[0]

    def note(self, text: str) -> None:
        self.clock += 1.0


def test_a_guest_that_does_not_answer_matters_only_when_it_must(action: GuestRequest) -> None:
    assert ask(Silent(), replace(action, fleeting=True)) == ""
    with pytest.raises(ProgramFailed, match="did not answer within 5 s"):
        ask(Silent(), action)


def test_the_worker_prints_the_report_or_says_why_not(action: GuestRequest, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    order = guest_report.Order(action.channel, action.pidfile, action.console)
    with pytest.raises(ProgramFailed, match="No such file"):
        guest_report.run(order, FakeHost())
    monkeypatch.setattr(guest_report, "ask", lambda host, asked: f"asked {asked.verb}\n")
    guest_report.run(order, FakeHost())
    assert capsys.readouterr().out == "asked report\n"
