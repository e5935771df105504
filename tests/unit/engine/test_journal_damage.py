"""A journal that is not as it was written: what was changed, removed, repeated or moved is noticed with its place."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.engine.cases import IMPOSSIBLE, Quiet, do, make
from vmtool.engine import apply, transactions
from vmtool.engine.journal import NAME, Journal
from vmtool.errors import Damaged, Refused, VmtoolError
from vmtool.host import files
from vmtool.paths import State
from vmtool.plan import Plan

EARLIER = Path(__file__).parents[2] / "data" / "journals"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def whole(state: State, tmp_path: Path) -> Path:
    """The journal of something that was applied."""
    do(state, make(tmp_path / "one"), make(tmp_path / "two"))
    return state.instance("a") / NAME


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def damage(path: Path) -> str:
    """What is said of it."""
    with pytest.raises(Damaged) as error:
        Journal(path.parent).replay()
    assert error.value.hint == "vmtool recover --adopt a"
    return error.value.message


def test_every_record_has_a_number_and_a_checksum(whole: Path) -> None:
    records = [json.loads(line) for line in lines_of(whole)]
    assert [record["number"] for record in records] == list(range(1, len(records) + 1))
    assert len({record["checksum"] for record in records}) == len(records)


def test_every_single_byte_that_is_changed_is_noticed_in_its_line(whole: Path) -> None:
    """But for the last line break: without it a record is whole all the same."""
    data = whole.read_bytes()
    for place in range(len(data)):
        whole.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
        line = data.count(b"\n", 0, place) + 1
        assert int(re.findall(rf"{NAME}:(\d+): ", damage(whole))[0]) in (line, line + 1), place
    whole.write_bytes(data[:-1])
    assert Journal(whole.parent).replay().state == "applied"


@pytest.mark.parametrize("number", [1, 2, 5, -2])
def test_a_line_that_is_removed_repeated_or_moved_is_noticed(whole: Path, number: int) -> None:
    lines = lines_of(whole)
    number %= len(lines)
    for changed in (lines[:number] + lines[number + 1:], lines[:number + 1] + lines[number:],
                    [*lines[:number - 1], lines[number], lines[number - 1], *lines[number + 1:]]):
        whole.write_bytes(b"".join(changed))
        lines_said = f"{number}|{number + 1}|{number + 2}"
        assert re.search(rf"{NAME}:({lines_said}): the journal is damaged: record ", damage(whole))


def test_the_first_line_that_is_gone_is_noticed(whole: Path) -> None:
    whole.write_bytes(b"".join(lines_of(whole)[1:]))
    assert f"{NAME}:1: the journal is damaged: record 2 follows on record 0" in damage(whole)


def test_a_line_of_another_journal_does_not_fit(whole: Path, state: State) -> None:
    shutil.copytree(whole.parent, state.instance("b"))
    with pytest.raises(Damaged, match=":1: the journal is damaged: its checksum does not fit"):
        Journal(state.instance("b")).replay()


@pytest.mark.parametrize(("harm", "said"), [
    (lambda path: path.write_bytes(b""), "the journal is empty"),
    (lambda path: path.write_bytes(b"\n"), ":1: the journal is damaged: it is no record"),
    (lambda path: path.write_bytes(os.urandom(200)), "the journal is (empty|damaged)"),
    (lambda path: path.write_bytes(b"[" * 200_000 + b"\n"), ":1: the journal is damaged: it is no record"),
    (lambda path: os.truncate(path, 1 << 40), "the journal is larger than 64 MiB"),
    (lambda path: path.unlink(), "the journal is missing, but not made beside it"),
    (lambda path: replaced(path, os.mkfifo), "the journal is not a regular file"),
    (lambda path: replaced(path, os.mkdir), "the journal is not a regular file"),
    (lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")), "the journal is not a regular file"),
], ids=["empty", "blank", "binary", "deep", "huge", "missing", "pipe", "directory", "link"])
def test_what_is_no_journal_is_damage(whole: Path, harm: Callable[[Path], object], said: str) -> None:
    (whole.parent / "made").touch()
    harm(whole)
    assert re.search(said, damage(whole))


def test_a_directory_that_is_none_is_damage(whole: Path) -> None:
    shutil.rmtree(whole.parent)
    whole.parent.touch()
    assert "what should be its directory is none" in damage(whole)


def test_a_line_cut_short_is_the_last_ones_only(whole: Path) -> None:
    """At any byte but whole lines it announces nothing; what comes next takes its place."""
    *lines, last = lines_of(whole)
    for cut in range(1, len(last) - 1):
        whole.write_bytes(b"".join(lines) + last[:cut])
        journal = Journal(whole.parent)
        assert journal.replay().state == "unfinished"
        journal.write("failed", error="killed")
        assert Journal(whole.parent).replay().state == "failed"
        assert len(lines_of(whole)) == len(lines) + 1
    whole.write_bytes(b"".join(lines) + last[:20] + b"\n")
    assert f":{len(lines) + 1}: the journal is damaged" in damage(whole)


def test_a_full_disk_leaves_a_line_that_the_next_record_replaces(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, write = Journal(whole.parent), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(OSError, match="No space left"):
        journal.write("failed", error="x")
    monkeypatch.setattr(os, "write", write)
    journal.write("clean")
    assert Journal(whole.parent).replay().state == "clean"


def test_a_full_disk_keeps_nobody_from_removing_what_fills_it(state: State, whole: Path, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def full(journal: Journal, event: str, **values: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "write", full)
    assert "that could not be recorded" in apply.undo(whole.parent, Quiet())[0], "where the journal stays it counts"
    transactions.remove(state, whole.parent, "vmtool rm a", Quiet())
    assert not (tmp_path / "one").exists()
    assert not whole.parent.exists()


def test_nothing_is_added_to_a_damaged_journal(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes().replace(b"make two", b"make twn"))
    before = whole.read_bytes()
    with pytest.raises(Damaged):
        Journal(whole.parent).write("clean")
    with pytest.raises(Damaged):
        Journal(whole.parent).start("instance a")
    assert whole.read_bytes() == before


def test_what_happens_to_a_journal_while_it_is_written_is_noticed(whole: Path) -> None:
    journal = Journal(whole.parent)
    journal.write("undoing", step=0)
    whole.write_bytes(b"".join(lines_of(whole)[:-3]))
    journal.write("undone", step=0)
    whole.unlink()
    with pytest.raises(Damaged, match="is missing"):
        journal.write("clean")


def earlier(name: str, directory: Path) -> Journal:
    """A journal of vmtool 0.1, which had neither numbers nor checksums."""
    directory.mkdir(parents=True)
    shutil.copy(EARLIER / f"{name}.jsonl", directory / NAME)
    return Journal(directory)


def test_an_earlier_journal_is_sealed_by_the_first_line_that_is_added(tmp_path: Path) -> None:
    journal = earlier("gpu-bind", tmp_path / "subject")
    before = lines_of(journal.path)
    journal.write("undoing", step=0)
    assert Journal(journal.path.parent).replay().state == "undoing"
    for changed in (before[1:], [before[0].replace(b"gpu", b"gpx"), *before[1:]], [*before, before[-1]]):
        journal.path.write_bytes(b"".join([*changed, lines_of(journal.path)[-1]]))
        with pytest.raises(Damaged, match="the journal is damaged"):
            Journal(journal.path.parent).replay()


def test_in_an_earlier_journal_only_an_undo_may_follow_a_line_cut_short(tmp_path: Path) -> None:
    journal = earlier("launch-runc", tmp_path / "subject")
    lines = lines_of(journal.path)
    torn = lines[4][:-20] + b"\n"
    journal.path.write_bytes(b"".join([*lines[:4], torn, *lines[5:]]))
    with pytest.raises(Damaged, match=":5: the journal is damaged: it is no record"):
        journal.replay()
    undoing = b'{"at": 1.5, "event": "undoing", "step": 0}\n'
    journal.path.write_bytes(b"".join([*lines[:4], torn, undoing]))
    assert Journal(journal.path.parent).replay().state == "undoing"


def test_a_record_that_lost_its_checksum_is_damage(whole: Path) -> None:
    """As an earlier vmtool would have written it: also when it is the only one."""
    for lines in (lines_of(whole), lines_of(whole)[:1]):
        last = re.sub(rb', "checksum": "[0-9a-f]+"', b"", lines[-1])
        whole.write_bytes(b"".join([*lines[:-1], last]))
        assert "it is no record" in damage(whole)


def test_remove_and_recover_touch_nothing_of_what_is_damaged(state: State, whole: Path, tmp_path: Path) -> None:
    whole.write_bytes(whole.read_bytes().replace(b"make two", b"make twn"))
    with pytest.raises(Damaged):
        transactions.remove(state, whole.parent, "vmtool rm a", Quiet())
    with pytest.raises(Damaged):
        transactions.recover(state, whole.parent, Quiet())
    assert (tmp_path / "one").is_dir() and whole.exists()
    [found] = transactions.read_damaged(state)
    assert "make twn" not in found.message and str(whole) in found.message
    assert transactions.read_interrupted(state) == []


def test_one_damaged_journal_keeps_no_other_from_being_recovered(state: State, whole: Path, tmp_path: Path) -> None:
    whole.write_bytes(b"")
    with pytest.raises(VmtoolError):
        apply.apply(lambda: Plan("instance b", state.instance("b"), (
            make(tmp_path / "three"), make(tmp_path / "four", IMPOSSIBLE))), Quiet(), host_lock=state.host_lock,
            doing="a test", keep=True)
    [left] = transactions.read_interrupted(state)
    assert transactions.recover(state, left.directory, Quiet()) == []
    assert not (tmp_path / "three").exists()


def test_what_is_found_missing_at_the_end_keeps_the_directory(state: State, whole: Path, tmp_path: Path) -> None:
    def look(problems: list[str]) -> None:
        raise Refused("something is left")

    with pytest.raises(Refused):
        transactions.remove(state, whole.parent, "vmtool rm a", Quiet(), check=look)
    assert Journal(whole.parent).replay().state == "clean"
    transactions.remove(state, whole.parent, "vmtool rm a", Quiet())
    assert not whole.parent.exists()


def test_a_kill_while_the_directory_is_removed_leaves_the_journal_for_last(state: State, whole: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    (whole.parent / "zzz").touch()
    removed: list[str] = []
    monkeypatch.setattr(files, "remove", lambda path: removed.append(path.name))
    transactions.remove(state, whole.parent, "vmtool rm a", Quiet())
    assert removed[-1] == "a"
    assert NAME not in removed and "zzz" in removed


