"""Domains are started whole or not at all, and ended whatever state they are in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.fakes.libvirtd import Connection, Failure
from tests.fakes.proc import Proc
from tests.unit.libvirt.cases import text, wish
from tests.unit.qemu.cases import argv
from vmtool.host import local
from vmtool.libvirt.workers import domains

NAME = "vmtool-chat"
QEMU = "/usr/bin/qemu-system-x86_64"


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps; how long they would have."""
    times: list[float] = []
    monkeypatch.setattr("vmtool.libvirt.workers.domains.time.sleep", times.append)
    return times


@pytest.fixture(autouse=True)
def proc(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """The processes of the machine."""
    processes: dict[int, Any] = {7: (QEMU, argv("none-libvirt")), 8: ("/bin/sh", ["sh"])}
    monkeypatch.setattr(local, "LocalMachine", lambda: Proc(processes))
    return processes


def test_a_start_tells_the_pid_of_qemu() -> None:
    connection = Connection()
    assert domains.start(connection, text(wish())) == 7
    assert connection.domains[NAME].running


def test_a_domain_that_does_not_start_is_not_left_behind() -> None:
    connection = Connection(broken=True)
    with pytest.raises(Failure, match="QEMU ended"):
        domains.start(connection, text(wish()))
    assert connection.domains == {}


@pytest.mark.parametrize("count", [0, 2])
def test_a_domain_without_a_single_qemu_is_not_left_behind(count: int, proc: dict[int, Any]) -> None:
    """Such as one that ended at once."""
    proc.pop(7)
    proc.update({number: (QEMU, argv("none-libvirt")) for number in range(20, 20 + count)})
    connection = Connection()
    with pytest.raises(SystemExit, match=f"{count} QEMU processes are named {NAME}"):
        domains.start(connection, text(wish()))
    assert connection.domains == {}


@pytest.mark.parametrize("running", [True, False])
def test_the_end_of_a_domain(running: bool, slept: list[float]) -> None:
    connection = Connection().holding(NAME, running=running).holding("other")
    domains.end(connection, NAME)
    assert set(connection.domains) == {"other"}
    assert sum(slept) == 0


def test_the_end_of_a_domain_that_is_not_there_is_harmless(slept: list[float]) -> None:
    connection = Connection().holding("other")
    domains.end(connection, NAME)
    assert connection.calls == [f"lookup {NAME}"]
    assert sum(slept) == 0


def test_a_libvirt_that_is_still_looking_is_asked_again() -> None:
    connection = Connection(blind=2).holding(NAME)
    domains.end(connection, NAME)
    assert connection.domains == {}


def test_a_domain_that_does_not_end_is_told(slept: list[float]) -> None:
    connection = Connection(stuck=True).holding(NAME)
    with pytest.raises(Failure, match="another job"):
        domains.end(connection, NAME)
    assert connection.calls.count(f"destroy {NAME}") == 4
    assert sum(slept) < 10, "the action that calls this has a deadline"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Connection:
    """What libvirt.open gives."""
    connection = Connection().holding(NAME)
    monkeypatch.setattr(libvirt, "open", lambda uri: connection)
    monkeypatch.setattr(libvirt, "registerErrorHandler", lambda handler, context: None)
    return connection


def test_the_program(opened: Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "domain.xml").write_text(text(wish()))
    domains.main(["qemu:///system", "state", NAME])
    domains.main(["qemu:///system", "end", NAME])
    domains.main(["qemu:///system", "start", str(tmp_path / "domain.xml")])
    assert capsys.readouterr().out == "running\n7\n"
    assert opened.closed


@pytest.mark.parametrize("words", [[], ["qemu:///system", "start"], ["qemu:///system", "destroy", NAME]])
def test_other_words_are_told_the_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="python -m vmtool"):
        domains.main(words)


def test_what_libvirt_says_is_the_programs_message(opened: Connection) -> None:
    with pytest.raises(SystemExit, match="libvirt: no domain with matching name 'absent'"):
        domains.main(["qemu:///system", "state", "absent"])
    assert opened.closed


@pytest.mark.parametrize(("uri", "handled"), [("qemu:///embed?root=/r", True), ("qemu:///system", False)])
def test_an_embedded_libvirt_needs_its_events_handled(opened: Connection, monkeypatch: pytest.MonkeyPatch, uri: str,
                                                      handled: bool) -> None:
    order: list[str] = []
    monkeypatch.setattr(libvirt, "virEventRegisterDefaultImpl", lambda: order.append("register"))
    monkeypatch.setattr("vmtool.libvirt.workers.domains.threading.Thread",
                        lambda target, daemon: Handler(order, daemon))

    def open_(uri: str) -> Connection:
        order.append("open")
        return opened

    monkeypatch.setattr(libvirt, "open", open_)
    with domains.connected(uri):
        pass
    assert order == (["register", "handle", "open"] if handled else ["open"])


class Handler:
    """A thread that only notes that it was started."""

    def __init__(self, order: list[str], daemon: bool) -> None:
        assert daemon, "else the program would never end"
        self.order = order

    def start(self) -> None:
        self.order.append("handle")
