"""Instances as their directories show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmtool.engine.journal import Journal
from vmtool.errors import Refused
from vmtool.instance.read import read_instance, read_instances
from vmtool.paths import State


def test_a_state_directory_is_one_by_whatever_links_it_is_reached(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to("state")
    (tmp_path / "above").symlink_to(tmp_path)
    found = {State.at(str(tmp_path / name)) for name in ("state", "link", "above/link", "link/.")}
    assert [state.root for state in found] == [tmp_path.resolve() / "state"]


def test_one_whose_path_has_a_line_break_is_refused(tmp_path: Path) -> None:
    """It is written into units of systemd, where the next line would be a directive."""
    with pytest.raises(Refused, match="unprintable"):
        State.at(f"{tmp_path}/a\nExecStartPre=/bin/false")


@pytest.mark.parametrize(("name", "text"), [
    ("journal.jsonl", '{"event": "plan"}\n'), ("instance.json", "{"), ("instance.json", '{"name": 7}'),
    ("instance.json", "")])
def test_a_damaged_instance_keeps_nobody_from_the_others(name: str, text: str, tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    for each in ("bad", "good"):
        Journal(state.instance(each)).start(f"instance {each}")
    (state.instance("bad") / name).write_text(text)
    (state.instances / "no name").mkdir()
    assert [(each.name, each.state) for each in read_instances(state)] == [("bad", "damaged"), ("good", "interrupted")]
    damage = read_instance(state, "bad").damage
    assert damage and "bad" in damage.message
    assert damage.hint == "vmtool recover --adopt bad"
