"""Domains are started whole or not at all, and ended whatever state they are in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.fakes.host import FakeHost
from tests.fakes.libvirtd import Connection, Failure
from tests.fakes.proc import Proc
from tests.unit.libvirt.cases import text, wish
from tests.unit.qemu.cases import argv
from vmtool.errors import NotReady, VmtoolError
from vmtool.libvirt.workers import domains, end_domain, start_domain

NAME = "vmtool-chat"
QEMU = "/usr/bin/qemu-system-x86_64"


class Machine(FakeHost):
    """A host with these processes; nobody sleeps on it."""

    def __init__(self) -> None:
        self.processes: dict[int, Any] = {7: (QEMU, argv("none-libvirt")), 8: ("/bin/sh", ["sh"])}
        super().__init__(Proc(self.processes))


@pytest.fixture
def host() -> Machine:
    return Machine()


def test_a_start_tells_the_pid_of_qemu(host: Machine) -> None:
    connection = Connection()
    assert domains.start(connection, text(wish()), host) == 7
    assert connection.domains[NAME].running


def test_a_domain_that_does_not_start_is_not_left_behind(host: Machine) -> None:
    connection = Connection(broken=True)
    with pytest.raises(Failure, match="QEMU ended"):
        domains.start(connection, text(wish()), host)
    assert connection.domains == {}


@pytest.mark.parametrize("count", [0, 2])
def test_a_domain_without_a_single_qemu_is_not_left_behind(count: int, host: Machine) -> None:
    """Such as one that ended at once."""
    host.processes.pop(7)
    host.processes.update({number: (QEMU, argv("none-libvirt")) for number in range(20, 20 + count)})
    connection = Connection()
    with pytest.raises(VmtoolError, match=f"{count} QEMU processes are named {NAME}"):
        domains.start(connection, text(wish()), host)
    assert connection.domains == {}


@pytest.mark.parametrize("running", [True, False])
def test_the_end_of_a_domain(running: bool, host: Machine) -> None:
    connection = Connection().holding(NAME, running=running).holding("other")
    domains.end(connection, NAME, host)
    assert set(connection.domains) == {"other"}
    assert host.clock == 0


def test_the_end_of_a_domain_that_is_not_there_is_harmless(host: Machine) -> None:
    connection = Connection().holding("other")
    domains.end(connection, NAME, host)
    assert connection.calls == [f"lookup {NAME}"]
    assert host.clock == 0


def test_a_libvirt_that_is_still_looking_is_asked_again(host: Machine) -> None:
    connection = Connection(blind=2).holding(NAME)
    domains.end(connection, NAME, host)
    assert connection.domains == {}


def test_a_domain_that_does_not_end_is_told(host: Machine) -> None:
    connection = Connection(stuck=True).holding(NAME)
    with pytest.raises(Failure, match="another job"):
        domains.end(connection, NAME, host)
    assert connection.calls.count(f"destroy {NAME}") == 4
    assert host.clock < 10, "the action that calls this has a deadline"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Connection:
    """What libvirt.open gives."""
    connection = Connection().holding(NAME)
    monkeypatch.setattr(libvirt, "open", lambda uri: connection)
    monkeypatch.setattr(libvirt, "registerErrorHandler", lambda handler, context: None)
    return connection


def test_the_workers(opened: Connection, host: Machine, tmp_path: Path) -> None:
    xml, pidfile = tmp_path / "domain.xml", tmp_path / "pid"
    xml.write_text(text(wish()))
    end_domain.run(end_domain.Order("qemu:///system", NAME), host)
    assert opened.domains == {}
    start_domain.run(start_domain.Order("qemu:///system", xml, pidfile), host)
    assert (pidfile.read_text(), pidfile.stat().st_mode & 0o777) == ("7\n", 0o600)
    assert opened.closed


def test_what_libvirt_says_is_the_workers_message(opened: Connection, host: Machine) -> None:
    opened.stuck = True
    with pytest.raises(VmtoolError, match="libvirt: another job has the domain"):
        end_domain.run(end_domain.Order("qemu:///system", NAME), host)
    assert opened.closed


def test_a_binding_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(NotReady, match="binding is missing") as error:
        end_domain.run(end_domain.Order("qemu:///system", NAME), host)
    assert "python3-libvirt" in error.value.hint


def test_libvirts_own_numbers_are_known() -> None:
    assert domains.GONE == (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


@pytest.mark.parametrize(("uri", "handled"), [("qemu:///embed?root=/r", True), ("qemu:///system", False)])
def test_an_embedded_libvirt_needs_its_events_handled(opened: Connection, monkeypatch: pytest.MonkeyPatch, uri: str,
                                                      handled: bool) -> None:
    order: list[str] = []
    monkeypatch.setattr(libvirt, "virEventRegisterDefaultImpl", lambda: order.append("register"))
    monkeypatch.setattr("vmtool.libvirt.workers.domains.threading.Thread",
                        lambda target, args, daemon: Handler(order, daemon))

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
