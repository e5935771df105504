"""Stopping: who takes the promise back, what is given back, and what is answered until the end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from tests.fakes.host import FakeHost
from tests.fakes.typed import typed
from tests.unit.launch.cases import RECORD, instance
from vmtool.cli import apply_plan
from vmtool.endpoint import client
from vmtool.engine import transactions
from vmtool.errors import Interrupted, NotReady
from vmtool.host import daemons, event_log, locks, processes
from vmtool.instance import promise
from vmtool.launch import load_facts, stop
from vmtool.launch.commands import instance as commands
from vmtool.launch.stages import launcher_of
from vmtool.paths import State


class Front:
    """An instance that serves, whose front answers the host, and the host."""

    def __init__(self, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
        self.state = State(tmp_path / "state")
        self.directory = self.state.instance("a")
        (self.directory / "log").mkdir(parents=True)
        # Requests that are answered, at each time that it is closed, the last again and again; None: no answer.
        self.left: list[int | None] = [0]
        self.asked: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        host = self.host = FakeHost()
        host.alive = {4242: "1"}
        self.instance = replace(instance(self.directory), record=replace(RECORD, manage=9464))
        self.instance.paths.pidfile.write_text("4242 1\n")
        patch.setattr(commands, "read_known", lambda machine, state, name: self.instance)
        patch.setattr(commands, "require_gone", lambda *words: None)
        patch.setattr(promise, "read_instance", lambda state, name: self.instance)
        patch.setattr(client, "drain", self.close)
        patch.setattr(processes, "start_time", lambda pid: "7" if pid == os.getpid() else host.alive.get(pid))
        patch.setattr(apply_plan, "LocalHost", lambda *words: host)
        patch.setattr(stop, "launcher_of", lambda handler: self)

    def close(self, host: object, server: object, key: object, *, close: bool) -> int | None:
        self.asked.append("close")
        self.meanwhile()
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    def end_politely(self, state: object, instance: object) -> tuple[Front, ...]:
        return (self,)

    def end_by_force(self, instance: object) -> tuple[Front, ...]:
        return ()

    def do(self, host: FakeHost) -> None:
        self.asked.append("end")
        if host.alive.get(4242) == "1":
            host.alive.clear()

    @property
    def marked(self) -> bool:
        return promise.is_stopped(self.instance.paths)

    def typed(self, *words: str) -> Result:
        return typed(self.state.root, *words)


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Front:
    monkeypatch.setattr(locks.Lock.__init__, "__kwdefaults__", {"wait": 0.0})
    monkeypatch.setattr(transactions, "WAIT", 0.0)
    return Front(tmp_path, monkeypatch)


def test_a_second_stop_that_is_refused_leaves_the_mark_of_the_first(front: Front) -> None:
    promise.mark_stopped(front.instance)
    with locks.Lock(front.state.lock(front.directory), "vmtool stop a"):
        assert isinstance(front.typed("stop", "a").exception, NotReady)
    assert front.marked


def test_what_is_given_up_holds_again(front: Front) -> None:
    with locks.Lock(front.state.lock(front.directory), "vmtool token add a"):
        assert isinstance(front.typed("stop", "a").exception, NotReady)
    assert not front.marked
    assert front.asked == []


def test_it_is_marked_at_its_end_also_when_another_gave_up_its_own(front: Front) -> None:
    front.meanwhile = lambda: front.instance.paths.stopped.unlink(missing_ok=True)
    assert front.typed("stop", "a").exit_code == 0
    assert front.asked[-1] == "end"
    assert front.marked


def test_rm_of_what_watch_has_just_started_lets_its_answers_end(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    starting = replace(front.instance, state="starting", pid=None)
    monkeypatch.setattr(commands, "read_known", lambda machine, state, name: starting)
    looks = [True, True, False]
    for module in (commands, promise):
        monkeypatch.setattr(module, "started_by_watch", lambda state, one: looks.pop(0))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert front.typed("rm", "--yes", "a").exit_code == 0
    assert front.asked
    assert not front.directory.exists()


def test_what_waits_for_the_host_and_is_refused_holds_again(front: Front) -> None:
    with locks.Lock(front.state.host_lock, "vmtool image import x"):
        assert isinstance(front.typed("stop", "a").exception, NotReady)
    assert front.asked == ["close"]
    assert not front.marked


def test_until_the_first_signal_ctrl_c_leaves_it_as_it_was(front: Front) -> None:
    def interrupt() -> None:
        if len(front.asked) == 2:
            signal.raise_signal(signal.SIGTERM)

    front.meanwhile = interrupt
    with pytest.raises(Interrupted):
        front.typed("stop", "a")
    assert front.asked == ["close"] * 2
    assert not front.marked


def test_what_another_one_has_stopped_meanwhile_stays_stopped(front: Front) -> None:
    def stopped_by_another() -> None:
        front.instance.paths.stopped.write_bytes(b"")
        signal.raise_signal(signal.SIGTERM)

    front.meanwhile = stopped_by_another
    with pytest.raises(Interrupted):
        front.typed("stop", "a")
    assert front.marked


@pytest.mark.parametrize("words", [("stop", "a"), ("rm", "--yes", "a")], ids=["stop", "rm"])
def test_its_front_is_closed_again_once_the_host_is_its_own(front: Front, words: tuple[str, ...]) -> None:
    """It may have waited for that until the front was open: what came in between gets the time that is left."""
    held = list[bool]()
    front.left, front.meanwhile = [0, 2, 0], lambda: held.append(locks.is_held(front.state.host_lock))
    result = front.typed(*words)
    assert result.exit_code == 0
    assert front.asked[:3] == ["close"] * 3
    assert held == [False, True, True]
    assert "cut off" not in result.stderr


@pytest.mark.parametrize("handler", ["runc", "kata", "libvirt"])
def test_whatever_launched_it_its_answers_come_to_their_end_first(front: Front, monkeypatch: pytest.MonkeyPatch,
                                                                  handler: str) -> None:
    monkeypatch.setattr(stop, "launcher_of", launcher_of)
    monkeypatch.setattr(type(launcher_of(handler)), "end_politely", lambda *words: (front,))
    front.instance = replace(front.instance, record=replace(front.instance.known(), handler=handler, details={
        "uri": "qemu:///system"}))
    assert front.typed("stop", "a").exit_code == 0
    assert front.asked == ["close", "close", "end"]


def test_what_is_not_over_in_the_time_that_is_left_is_said(front: Front) -> None:
    front.left = [0, 2]
    result = front.typed("stop", "a", "--drain", "5")
    assert "2 answers are cut off" in result.stderr
    assert 4 < front.host.clock < 6
    assert [event["answers"] for event in event_log.read(front.directory) if event["event"] == "cut-off"] == [2]


@pytest.mark.parametrize("words", [("stop", "a"), ("rm", "--yes", "a")], ids=["stop", "rm"])
def test_a_front_that_does_not_answer_is_said_and_keeps_nobody_from_it(front: Front, words: tuple[str, ...]) -> None:
    front.left = [None]
    result = front.typed(*words)
    assert result.exit_code == 0
    assert "warning: the front of a does not answer this host: what it is answering is cut off" in result.stderr
    assert front.asked == (["close", "end"] if words[0] == "stop" else ["close"]), "nobody waits for it twice"


def test_one_of_an_earlier_vmtool_cannot_wait_and_that_is_said(front: Front) -> None:
    front.instance = replace(front.instance, record=replace(RECORD, manage=0))
    result = front.typed("stop", "a")
    assert "warning: an earlier vmtool started a, whose front cannot wait" in result.stderr
    assert front.asked == ["end"]


def test_a_stop_that_is_killed_leaves_the_promise(front: Front) -> None:
    """Whatever moment it is: its mark counts as long as it lives, or once the signals follow."""
    seen = list[tuple[bool, bool]]()

    def look() -> None:
        mark = front.instance.paths.stopped
        alive, left = front.marked, mark.read_text()
        mark.write_text(left.replace(" 7", " 6"))  # of a process that was killed
        seen.append((alive, front.marked))
        mark.write_text(left)

    front.meanwhile = look
    assert front.typed("stop", "a").exit_code == 0
    assert seen == [(True, False)] * 2
    assert front.instance.paths.stopped.read_text() == ""
    assert front.marked


def test_a_full_disk_keeps_nobody_from_stopping_what_fills_it(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files can be made and locks be held, but not a byte can be written."""
    def full(descriptor: int, data: bytes, offset: int = 0) -> int:
        raise OSError(28, "No space left on device")

    def no_bytes(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(daemons, "write_own", no_bytes)
    monkeypatch.setattr(os, "pwrite", full)
    front.meanwhile = lambda: seen.append(front.marked)
    seen = list[bool]()
    assert front.typed("stop", "a").exit_code == 0
    assert seen == [True, True]
    assert front.asked[-1] == "end"


@pytest.mark.parametrize("moment", [1, 2], ids=["while-it-drains", "at-its-close"])
def test_one_that_ends_meanwhile_is_stopped_also_when_another_process_gets_its_pid(front: Front, moment: int) -> None:
    """That one is nobody's to wait for, and survives nothing."""
    def end() -> None:
        if len(front.asked) == moment:
            front.host.alive[4242] = "9"

    front.meanwhile = end
    assert front.typed("stop", "a").exit_code == 0
    assert front.host.clock == 0
    assert [event["event"] for event in event_log.read(front.directory)][-1] == "stopped"


def test_what_does_not_run_is_stopped_for_good(front: Front) -> None:
    front.instance = replace(front.instance, pid=None, state="stopped")
    assert "a does not run: stopped" in front.typed("stop", "a").stderr
    assert front.instance.paths.stopped.read_text() == ""


@pytest.mark.parametrize(("said", "shown"), [
    ("stopping", "stopping"), ("restarting", "restarting"), ("anything", "no answer")])
def test_its_health_meanwhile_is_what_its_front_says(
        front: Front, monkeypatch: pytest.MonkeyPatch, said: str, shown: str) -> None:
    """As in `vmtool top`."""
    address = SimpleNamespace(trust=None)
    monkeypatch.setattr(load_facts, "address_of", lambda host, server: address)
    monkeypatch.setattr(front.host, "request", lambda *words, **more: (503, json.dumps({"status": said})))
    assert load_facts.read_health(front.host, front.instance) == shown
