"""What is asked before a plan and shown every record: it can forbid a change, and can break no undo."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.engine.cases import IMPOSSIBLE, Quiet, do, make
from vmtool.engine import apply, hooks, transactions
from vmtool.engine.hooks import Event
from vmtool.engine.journal import Journal
from vmtool.errors import Refused, VmtoolError
from vmtool.machine import Host
from vmtool.net.actions import RemoveGuard
from vmtool.paths import State
from vmtool.plan import MakeDir, Plan, Remove, Run, Step


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What an observer was shown."""
    events: list[Event] = []
    monkeypatch.setattr(hooks, "observers", (events.append,))
    return events


def test_nobody_watches_or_forbids_by_default() -> None:
    assert (hooks.authorisers, hooks.observers) == ((), ())


def test_a_plan_is_authorised_before_anything_is_written(state: State, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(plan: Plan) -> None:
        asked.append(plan.subject)
        raise Refused("not by you")

    monkeypatch.setattr(hooks, "authorisers", (refuse,))
    with pytest.raises(Refused, match="not by you"):
        do(state, make(tmp_path / "one"))
    assert asked == ["instance a"]
    assert not state.instance("a").exists()
    assert not (tmp_path / "one").exists()


def test_every_record_is_shown_before_and_after_it_is_written(state: State, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, bool]] = []

    def look(event: Event) -> None:
        written = event.name in [record["event"] for record in Journal(event.directory).records()]
        seen.append((event.moment, event.name, written))
        assert event.directory == state.instance("a")

    monkeypatch.setattr(hooks, "observers", (look,))
    do(state, make(tmp_path / "one"))
    assert seen == [(moment, name, moment == "after") for name in ("plan", "step", "begin", "end", "applied")
                    for moment in ("before", "after")]


def test_an_action_lies_between_begin_and_end(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, there = tmp_path / "one", {}

    def look(event: Event) -> None:
        there[event.moment, event.name] = path.exists()

    monkeypatch.setattr(hooks, "observers", (look,))
    do(state, make(path))
    assert (there["after", "begin"], there["before", "end"]) == (False, True)


def test_the_values_of_a_record_are_shown(state: State, tmp_path: Path, seen: list[Event]) -> None:
    do(state, make(tmp_path / "one"))
    values = {event.name: event.values for event in seen}
    assert values["plan"] == {"subject": "instance a"}
    assert values["step"]["title"] == "make one"
    assert values["begin"]["shell"] == MakeDir(tmp_path / "one").shell()
    assert values["end"].keys() == {"seconds"}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", ["plan", "step", "begin", "end", "applied"])
def test_an_observer_that_fails_stops_the_plan_and_all_is_undone(state: State, tmp_path: Path, name: str, moment: str,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(event: Event) -> None:
        if (event.moment, event.name) == (moment, name):
            raise VmtoolError("the audit log is full")

    monkeypatch.setattr(hooks, "observers", (fail,))
    with pytest.raises(VmtoolError, match="the audit log is full"):
        do(state, make(tmp_path / "one"))
    assert not (tmp_path / "one").exists()
    assert transactions.read_interrupted(state) == []


def test_a_start_that_is_refused_leaves_what_was_there_before(state: State, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(event: Event) -> None:
        raise VmtoolError("the audit log is full")

    do(state, make(tmp_path / "one"))
    monkeypatch.setattr(hooks, "observers", (fail,))
    with pytest.raises(VmtoolError, match="the audit log is full"):
        do(state, make(tmp_path / "two"))
    assert (tmp_path / "one").is_dir()
    replayed = Journal(state.instance("a")).replay()
    assert (replayed.state, [entry.title for entry in replayed.entries]) == ("applied", ["make one"])


def test_no_observer_breaks_an_undo(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def fail(event: Event) -> None:
        if event.name in ("failed", "undone", "clean"):
            told.append(f"{event.moment} {event.name}")
            raise RuntimeError("an observer with a fault")

    monkeypatch.setattr(hooks, "observers", (fail,))
    with pytest.raises(VmtoolError, match="File exists"):
        do(state, make(tmp_path / "one"), make(tmp_path / "two", IMPOSSIBLE))
    assert told == [f"{moment} {name}" for name in ("failed", "undone", "undone", "clean")
                    for moment in ("before", "after")]
    assert not (tmp_path / "one").exists()
    replayed = Journal(state.instance("a")).replay()
    assert (replayed.state, replayed.entries) == ("clean", [])
    do(state, make(tmp_path / "one"))
    assert apply.undo(state.instance("a"), Quiet()) == []
    assert not (tmp_path / "one").exists()


def test_an_undo_that_somebody_asks_for_is_authorised(state: State, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str], list[str]]] = []

    def refuse(plan: Plan) -> None:
        lines = [action.shell() for step in plan.steps for action in step.actions]
        asked.append((plan.subject, [step.title for step in plan.steps], lines))
        raise Refused("not by you")

    do(state, make(tmp_path / "one"), make(tmp_path / "two"))
    Journal(state.instance("a")).write("failed", error="kept")
    monkeypatch.setattr(hooks, "authorisers", (refuse,))
    with pytest.raises(Refused, match="not by you"):
        transactions.remove(state, state.instance("a"), "vmtool rm a", Quiet())
    with pytest.raises(Refused, match="not by you"):
        transactions.recover(state, state.instance("a"), Quiet())
    removals = [Remove(tmp_path / name).shell() for name in ("two", "one")]
    assert asked == [("instance a", ["undo: make two", "undo: make one"], removals)] * 2
    assert (tmp_path / "two").exists()


def test_an_undo_is_on_record_before_its_first_action(state: State, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    do(state, make(tmp_path / "one"))
    seen: list[str] = []
    done = Remove.do

    def look(action: Remove, host: Host) -> None:
        seen.extend(each.journal.state for each in transactions.read_interrupted(state))
        done(action, host)

    monkeypatch.setattr(Remove, "do", look)
    assert apply.undo(state.instance("a"), Quiet()) == []
    assert seen == ["undoing"]
    assert transactions.read_interrupted(state) == []


def test_what_guards_the_rest_goes_only_when_the_rest_has_gone(state: State, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoveGuard, "do", lambda action, host: (tmp_path / "guard").unlink())
    (tmp_path / "guard").touch()
    step = Step("attach", (MakeDir(tmp_path / "one"),), undo=(Run(("no-such-program",)), RemoveGuard(("iptables",))))
    do(state, step)
    assert apply.undo(state.instance("a"), Quiet()) == ["attach: no-such-program: no such program"]
    assert (tmp_path / "guard").exists()
