"""Applying, failing half-way, going back; with file actions only, in a directory of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.fakes.host import FakeHost
from tests.unit.engine.cases import IMPOSSIBLE, Quiet, do, make
from vmtool.cli.main import vmtool
from vmtool.engine import apply, transactions
from vmtool.engine.journal import NAME, Journal
from vmtool.errors import NotReady, VmtoolError
from vmtool.host import locks
from vmtool.launch.commands import recover
from vmtool.paths import State
from vmtool.plan import MakeDir, Plan, Remove, Step


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_every_step_is_done_and_the_journal_says_so(state: State, tmp_path: Path) -> None:
    monitor = do(state, make(tmp_path / "one"), Step("two", skip="there is no need"))
    assert (tmp_path / "one").is_dir()
    assert monitor.reported == ["make one", "two: there is no need"]
    assert Journal(state.instance("a")).replay().state == "applied"


def test_a_failure_is_undone(state: State, tmp_path: Path) -> None:
    with pytest.raises(VmtoolError, match="make two: File exists: /dev/null"):
        do(state, make(tmp_path / "one"), make(tmp_path / "two", IMPOSSIBLE), make(tmp_path / "three"))
    assert not [name for name in ("one", "two", "three") if (tmp_path / name).exists()]
    replayed = Journal(state.instance("a")).replay()
    assert (replayed.state, replayed.entries) == ("clean", [])
    assert "File exists" in replayed.error


def test_keep_leaves_what_failed_for_a_look_and_recover_removes_it(state: State, tmp_path: Path) -> None:
    with pytest.raises(VmtoolError):
        do(state, make(tmp_path / "one"), make(tmp_path / "two", IMPOSSIBLE), keep=True)
    assert (tmp_path / "two").is_dir()
    [left] = transactions.read_interrupted(state)
    assert transactions.recover(state, left.directory, Quiet()) == []
    assert not (tmp_path / "one").exists()
    assert transactions.read_interrupted(state) == []


def test_a_lost_terminal_does_not_prevent_the_way_back(state: State, tmp_path: Path) -> None:
    class Lost(Quiet):
        def step(self, title: str) -> None:
            if title == "undo everything":
                raise OSError(5, "Input/output error")

        def note(self, text: str) -> None:
            raise OSError(5, "Input/output error")

    plan = Plan("instance a", state.instance("a"), (make(tmp_path / "one"), make(tmp_path / "two", IMPOSSIBLE)))
    with pytest.raises(VmtoolError, match="File exists"):
        apply.apply(lambda: plan, Lost(), host_lock=state.host_lock, doing="a test")
    assert not (tmp_path / "one").exists()


def test_recover_leaves_alone_what_was_finished_since_it_was_listed(state: State, tmp_path: Path) -> None:
    do(state, make(tmp_path / "one"))
    assert transactions.recover(state, state.instance("a"), Quiet()) == []
    assert (tmp_path / "one").is_dir()


def test_an_undo_that_fails_is_told_and_tried_again(state: State, tmp_path: Path) -> None:
    stubborn = Step("stubborn", (MakeDir(tmp_path / "s"),), undo=(IMPOSSIBLE, Remove(tmp_path / "s")))
    do(state, make(tmp_path / "one"), stubborn)
    problems = apply.undo(state.instance("a"), Quiet())
    assert len(problems) == 1
    assert problems[0].startswith("stubborn: ")
    assert not (tmp_path / "s").exists(), "the actions after the failed one are tried"
    assert not (tmp_path / "one").exists(), "the steps before the failed one are undone"
    assert [entry.title for entry in Journal(state.instance("a")).replay().entries] == ["stubborn"]


def test_remove_keeps_the_directory_when_something_is_left(state: State, tmp_path: Path) -> None:
    do(state, Step("stubborn", undo=(IMPOSSIBLE,)))
    with pytest.raises(VmtoolError, match="not everything could be removed"):
        transactions.remove(state, state.instance("a"), "vmtool rm a", Quiet())
    assert Journal(state.instance("a")).replay().entries


def test_the_host_lock_is_let_go_for_steps_that_only_wait(state: State, tmp_path: Path) -> None:
    held: dict[str, bool] = {}

    class Spying(FakeHost):
        def make_dir(self, path: Path, *, mode: int = 0o700, uid: int = 0) -> None:
            held[path.name] = locks.is_held(state.host_lock)
            super().make_dir(path, mode=mode, uid=uid)

    do(state, make(tmp_path / "change"), make(tmp_path / "wait", waits_only=True), on=lambda log, note: Spying())
    assert held == {"change": True, "wait": False}


def test_a_lock_names_its_holder(state: State) -> None:
    busy = pytest.raises(NotReady, match=r"host is busy: vmtool run a \(pid")
    with locks.Lock(state.host_lock, "vmtool run a"), busy, locks.Lock(state.host_lock, "vmtool rm a"):
        pass
    assert not locks.is_held(state.host_lock)


def test_a_journal_of_another_version_is_told_and_keeps_no_other_from_being_recovered(
        state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "require_gone", lambda *words: None)  # it would look at the machine
    with pytest.raises(VmtoolError):
        do(state, make(tmp_path / "one"), make(tmp_path / "two", IMPOSSIBLE), keep=True)
    for name, record in (("0", {"event": "step", "title": "new", "undo": [{"kind": "FromTheFuture"}]}),
                         ("b", {"event": "plan"}), ("c", {"event": "end", "seconds": 1})):
        journal = Journal(state.instance(name))
        journal.start(name)
        journal.write(**record)
    told = CliRunner().invoke(vmtool, ["--state-dir", str(state.root), "recover"])
    assert not (tmp_path / "one").exists()
    assert isinstance(told.exception, VmtoolError)
    assert told.exception.code == 1
    assert [detail.partition(": ")[0] for detail in told.exception.details] == [
        str(state.instance(name) / NAME) for name in ("0", "b", "c")]
    assert "FromTheFuture" in told.exception.details[0]
    assert "the journal was written by another version of vmtool" in told.exception.details[0]


def test_recover_leaves_alone_what_is_applied_or_at_work(state: State, tmp_path: Path) -> None:
    do(state, make(tmp_path / "one"))
    assert transactions.read_interrupted(state) == []
    Journal(state.instance("b")).start("instance b")
    assert [left.directory.name for left in transactions.read_interrupted(state)] == ["b"]
    with locks.Lock(state.lock(state.instance("b")), "vmtool run b"):
        assert transactions.read_interrupted(state) == []
