"""What becomes of a network of `vmtool net add` whose journal or directory is damaged or gone: whatever is typed says
the truth, and what the hints say removes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.ondisk import OnDisk, typed
from tests.unit.sweeps import net
from vmtool.host import processes
from vmtool.paths import State


def forget(path: Path) -> None:
    """Nothing is left of it that says what was done, or what it is."""
    for name in ("journal.jsonl", "network.json", "plan.json"):
        (path / name).unlink()


HARMS: dict[str, Callable[[Path], object]] = {
    "no journal": lambda path: (path / "journal.jsonl").unlink(),
    "no directory": shutil.rmtree,
    "no record": lambda path: (path / "network.json").unlink(),
    "neither": forget,
    "an empty journal": lambda path: (path / "journal.jsonl").write_bytes(b""),
    "half a journal": lambda path: os.truncate(path / "journal.jsonl", (path / "journal.jsonl").stat().st_size // 2),
    "a binary record": lambda path: (path / "network.json").write_bytes(bytes(range(256))),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnDisk]:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(processes, "become", lambda argv: None)
    state = State(tmp_path / "state")
    world = OnDisk(net.added("plain", *net.PORTS)(state), state.root)
    world.dump()
    world.install(monkeypatch)
    yield world


def left(world: OnDisk) -> list[str]:
    """What of the network is on the machine."""
    machine = world.machine
    rules = [line for table in ("nat", "filter", "raw") for line in machine.tables.lines(table) if "alpha" in line]
    return [*(name for name in machine.links.spaces if name == "alpha"), *rules]


def test_unharmed_it_is_removed_at_once(world: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    done = typed(world.root, "net", "del", "alpha", patch=monkeypatch)
    assert (done.code, done.err.splitlines()[-1], left(world)) == (0, "the network alpha is removed", [])
    assert typed(world.root, "net", "del", "alpha", patch=monkeypatch).hint == ["net", "show"]


@pytest.mark.parametrize("harm", HARMS)
def test_it_can_be_removed_by_what_the_hints_say(world: OnDisk, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    HARMS[harm](world.root / "networks" / "alpha")
    assert left(world)
    words = ["net", "del", "alpha"]
    for _ in range(5):
        done = typed(world.root, *words, patch=monkeypatch)
        assert "Traceback" not in done.err, done
        if done.code == 0 and not left(world):
            return
        assert done.code and done.hint, f"something is left: {done}"
        words = done.hint
    raise AssertionError(f"{done}: {left(world)}")


def test_a_namespace_that_happens_to_be_called_so_stays(world: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(world.root, "net", "del", "alpha", patch=monkeypatch)
    world.machine.links.spaces["blue"] = world.machine.links.spaces[""]
    done = typed(world.root, "net", "del", "blue", patch=monkeypatch)
    assert (done.code, "there is no network 'blue'" in done.err, done.hint) == (1, True, ["net", "show"]), done


def test_what_may_be_of_another_state_directory_is_not_removed_by_the_way(
        world: OnDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before, words = left(world), ["net", "del", "alpha"]
    for _ in range(2):
        done = typed(tmp_path / "other", *words, patch=monkeypatch)
        assert (bool(done.code), left(world)) == (True, before), done
        words = done.hint
    assert words[-1] == "--yes", "it is asked for by name"
