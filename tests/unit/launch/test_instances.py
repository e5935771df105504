"""Instances as their directories show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from tests.fakes.threads import stat
from vmtool.engine.journal import Journal
from vmtool.engine.transactions import read_interrupted
from vmtool.errors import Refused
from vmtool.host import locks
from vmtool.instance.instance import Instance
from vmtool.instance.process import search_process
from vmtool.instance.read import read_instance, read_instances
from vmtool.paths import State
from vmtool.watch.facts import Instances

RECORD = Path(__file__).parents[2] / "data" / "instances" / "runc" / "instance.json"


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


@pytest.mark.parametrize(("first", "found"), [
    (stat(7, "S"), 7), (stat(7, "Z", 2), 7), (stat(7, "Z"), 8), ("", 8)], ids=["lives", "threads", "zombie", "gone"])
def test_its_process_is_not_one_that_has_ended_and_that_its_shim_does_not_look_after(first: str, found: int,
                                                                                   tmp_path: Path) -> None:
    shim = "/usr/bin/containerd-shim-runc-v2 -namespace vmtool -id chat -address /run/containerd/containerd.sock"
    texts = {"/proc/5/cmdline": shim.replace(" ", "\0"), "/proc/5/status": "PPid:\t1\nUid:\t0\t0\t0\t0\n",
             "/proc/7/stat": first, "/proc/8/stat": stat(8, "S")}
    for pid in (7, 8):
        texts |= {f"/proc/{pid}/status": f"PPid:\t5\nNSpid:\t{pid}\t{pid - 6}\n",
                  f"/proc/{pid}/cgroup": "0::/vmtool-chat\n"}
    host = Recorded({"names": {"/proc": ["5", "7", "8"]}, "texts": texts})
    assert search_process(host, State(tmp_path), "chat") == found


def test_a_command_that_comes_to_its_end_during_the_look_was_not_interrupted(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is at work while its journal is read, and has let go of the lock when that is looked at."""
    state = State(tmp_path / "state")
    journal, watched = Journal(state.instance("a")), Instances(state)

    def end(path: Path) -> bool:
        journal.write("applied")
        return False

    def read() -> list[Instance]:
        return read_instances(state)

    def watch() -> list[Instance]:
        return [each.instance for each in watched.read()]

    for look in (read, watch):
        journal.start("instance a")
        (journal.path.parent / "instance.json").write_bytes(RECORD.read_bytes())
        with locks.Lock(state.lock(journal.path.parent), "vmtool start a"):
            assert [one.state for one in look()] == ["starting"]
        with monkeypatch.context() as patch:
            patch.setattr(locks, "is_held", end)
            assert [one.state for one in look()] == ["stopped"]
    journal.start("instance a")
    monkeypatch.setattr(locks, "is_held", end)
    assert read_interrupted(state) == []
