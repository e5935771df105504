"""A state directory is one place: none is made within another one, or around one."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from tests.fakes.ondisk import typed
from vmtool.host import locks, nested_state
from vmtool.host.nested_state import check_apart
from vmtool.paths import State


def used(root: Path) -> Path:
    """A state directory in which something was done."""
    with locks.Lock(State(root).host_lock, "vmtool run chat"):
        return root


@pytest.mark.parametrize("inner", ["instances", "instances/chat", "instances/chat/secret/deep", "x", "networks/n"])
def test_none_is_made_within_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    outer = used(tmp_path / "outer")
    for words in (["ps"], ["gpu", "list"], ["spec", "example", "runc"]):
        done = typed(outer / inner, *words, patch=monkeypatch)
        assert (done.code, f"is within another state directory, {outer}" in done.err) == (2, True), done
        assert not (outer / inner).exists()
    assert typed(tmp_path, *done.hint, patch=monkeypatch).code == 0


@pytest.mark.parametrize("inner", ["a", "a/b", "instances/chat", "a/b/c"])
def test_none_is_made_around_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    used(tmp_path / "outer" / inner)
    done = typed(tmp_path / "outer", "ps", patch=monkeypatch)
    assert (done.code, f"is around another state directory, {tmp_path}/outer/{inner}" in done.err) == (2, True), done


def test_a_link_into_another_one_is_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = used(tmp_path / "outer")
    (tmp_path / "link").symlink_to(outer / "instances")
    assert State.at(str(tmp_path / "link")).root == outer / "instances"
    with pytest.raises(Exception, match="within another state directory"):
        check_apart(State.at(str(tmp_path / "link")))


def test_those_that_are_so_already_go_on_and_neighbours_are_none(tmp_path: Path) -> None:
    inner, outer = used(tmp_path / "s" / "inner"), used(tmp_path / "s")
    for root in (inner, outer, tmp_path / "t", tmp_path / "s2"):
        check_apart(State(root))


def test_what_lies_below_is_not_looked_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in itertools.product("abcde", repeat=4):
        tmp_path.joinpath(*way).mkdir(parents=True)
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    assert len(list(nested_state._below(tmp_path))) == 5 + 25 + 125
    monkeypatch.setattr(nested_state, "MANY", 10)
    assert len(list(nested_state._below(tmp_path))) <= 10


def test_what_others_keep_to_themselves_keeps_nobody_from_a_command(tmp_path: Path) -> None:
    """/var/lib/vmtool is root's alone, and most commands are for everybody."""
    used(tmp_path / "theirs")
    (tmp_path / "theirs").chmod(0)
    user = os.geteuid()
    try:
        if not user:
            os.seteuid(65534)
        for root in (tmp_path / "theirs", tmp_path / "theirs" / "x", tmp_path):
            check_apart(State(root))
    finally:
        os.seteuid(user)
