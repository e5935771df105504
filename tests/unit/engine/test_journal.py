"""The journal tells the present state from its records, whatever was cut off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmtool.engine.journal import NAME, Journal
from vmtool.errors import Damaged
from vmtool.plan import Remove, Step


def begun(directory: Path, *titles: str) -> Journal:
    journal = Journal(directory)
    journal.start("instance a")
    for title in titles:
        journal.step(Step(title, undo=(Remove(Path("/x") / title),)))
    return journal


def test_no_journal_is_no_transaction(tmp_path: Path) -> None:
    assert Journal(tmp_path).replay().state == "none"


def test_begun_steps_are_what_is_to_be_undone(tmp_path: Path) -> None:
    replayed = begun(tmp_path, "one", "two").replay()
    assert (replayed.state, replayed.subject) == ("unfinished", "instance a")
    assert [entry.undo for entry in replayed.entries] == [(Remove(Path("/x/one")),), (Remove(Path("/x/two")),)]


def test_an_undone_step_is_not_undone_again(tmp_path: Path) -> None:
    journal = begun(tmp_path, "one", "two")
    journal.write("failed", error="no space")
    journal.write("undone", step=1)
    replayed = journal.replay()
    assert (replayed.state, replayed.error) == ("undoing", "no space")
    assert [entry.title for entry in replayed.entries] == ["one"]


@pytest.mark.parametrize("event", ["applied", "clean"])
def test_the_last_word_is_the_state(tmp_path: Path, event: str) -> None:
    journal = begun(tmp_path, "one")
    journal.write(event)
    assert journal.replay().state == event


def test_a_torn_last_line_announces_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    journal = begun(tmp_path, "one")
    file = tmp_path / NAME
    whole = file.read_bytes()
    for cut in range(1, 60):
        file.write_bytes(whole + b'{"at": 1, "event": "step", "title": "torn", "undo": [{"kind": "Rem'[:cut])
        assert [entry.title for entry in journal.replay().entries] == ["one"]
        journal.write("failed", error="killed")
        assert journal.replay().state == "failed"


def test_what_an_interrupted_transaction_left_is_carried_over(tmp_path: Path) -> None:
    begun(tmp_path, "one")
    assert [entry.title for entry in begun(tmp_path, "two").replay().entries] == ["one", "two"]


def test_what_a_finished_one_left_is_carried_over_by_one_that_clears_it(tmp_path: Path) -> None:
    journal = begun(tmp_path, "one")
    journal.write("applied")
    journal.start("instance a", clears=True)
    assert [entry.title for entry in journal.replay().entries] == ["one"]
    journal.step(Step("clear"))
    journal.forget()
    assert journal.replay().entries == []


def test_a_record_that_does_not_fit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = begun(tmp_path)
    monkeypatch.setattr(os, "write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="No space left"):
        journal.step(Step("two"))


@pytest.mark.parametrize("taken", [False, True])
def test_what_was_applied_stays_on_record_until_a_step_takes_its_place(tmp_path: Path, taken: bool) -> None:
    """A second import that is killed while containerd starts: the images of the first one must not be forgotten."""
    journal = begun(tmp_path, "containerd", "import")
    journal.write("applied")
    journal.start("instance a", replaces=True)
    journal.step(Step("containerd again"))
    if taken:
        journal.step(Step("import again", replaces_previous=True))
    replayed = journal.replay()
    assert [entry.title for entry in replayed.entries] == ["containerd again", *(["import again"] if taken else [])]
    assert [entry.title for entry in replayed.previous] == ([] if taken else ["containerd", "import"])
    for entry in reversed(replayed.entries):
        journal.write("undone", step=entry.number)
    journal.write("clean")
    after = journal.replay()
    assert (after.state, [entry.title for entry in after.entries]) == (
        ("clean", []) if taken else ("applied", ["containerd", "import"]))


def test_half_forgotten_the_rest_is_a_whole_way_back(tmp_path: Path) -> None:
    """A container's undo starts containerd, and an older one stops it: the older one must not be forgotten first."""
    journal = begun(tmp_path, "containerd", "container", "clear")
    whole = (tmp_path / NAME).read_bytes()
    journal.forget()
    notes = (tmp_path / NAME).read_bytes()[len(whole):].splitlines(keepends=True)
    left = []
    for count in range(len(notes) + 1):
        (tmp_path / NAME).write_bytes(whole + b"".join(notes[:count]))
        left.append([entry.title for entry in journal.replay().entries])
    assert left == [["containerd", "container", "clear"], ["containerd", "container"], ["containerd"], []]


def test_a_new_transaction_forgets_the_old(tmp_path: Path) -> None:
    begun(tmp_path, "one").write("applied")
    assert begun(tmp_path, "two").replay().state == "unfinished"
    assert [entry.title for entry in Journal(tmp_path).replay().entries] == ["two"]


def test_an_action_of_another_version_is_not_guessed_at(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.write("step", title="new", undo=[{"kind": "FromTheFuture"}])
    with pytest.raises(Damaged, match=r"another version of vmtool.*FromTheFuture"):
        journal.replay()


def test_the_journal_is_private(tmp_path: Path) -> None:
    begun(tmp_path / "new", "one")
    assert (tmp_path / "new" / NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
