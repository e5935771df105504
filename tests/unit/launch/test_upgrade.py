"""Upgrades: what is planned, what is refused, and that at any moment exactly one of the two serves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.launches import launched
from tests.fakes.machine import FakeMachine
from tests.unit.launch.cases import RECORD, STATE, facts, instance, plan, wish
from tests.unit.sweeps.engine import Sweep, do, recover
from tests.unit.sweeps.launch import CASES
from vmtool.engine import apply
from vmtool.engine.journal import Entry, Journal, JournalState
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.instance import promise
from vmtool.instance.instance import Instance, Paths
from vmtool.launch.commands.upgrade import wanted_spec
from vmtool.launch.plan_upgrade import plan_upgrade, typed_command
from vmtool.net.network import Network
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.spec.runtime import Spec

NETWORK = Network("a", "vmt-a", "10.201.18.0/24", "instance a")


def old_one(**changes: Any) -> Instance:
    """The instance that runs, as `vmtool run` launched it."""
    entries = [Entry(number, step.title, step.undo) for number, step in enumerate(plan().steps)]
    seconds = [("wait until the server is healthy", 41.0)]
    record = replace(RECORD, **{"manage": 9464, **changes})
    return replace(instance(Path("/s/instances/a")), record=record,
                   journal=JournalState(state="applied", entries=entries, seconds=seconds))


def upgrade(spec: Spec | None = None, running: Spec | None = None, drain: float | None = None, **changes: Any) -> Plan:
    old = old_one(**changes)
    launch, host = launched(STATE, spec or wish(), facts(earlier=old))
    launch = replace(launch, slot="b", replaces=old, network_facts=replace(launch.network_facts, ours=(NETWORK,)))
    return plan_upgrade(launch, host, old, running or wish(), drain=drain, typed="vmtool upgrade a")


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr(apply, "to_json", lambda plan: {})
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Sweep(CASES["upgrade"], State(Path(directory) / "state"))


def serving(machine: FakeMachine) -> list[str]:
    """The containers whose process lives and has its key."""
    return [name for store in machine.containerds.values() for name, task in store.tasks.items()
            if task.key and task.pid in machine.processes]


def asked(machine: FakeMachine) -> int:
    return machine.request("GET", "http://127.0.0.1:8000/health", deadline=1.0)[0]


@pytest.mark.thorough
def test_clients_are_served_at_every_moment_and_after_a_kill_exactly_one_is_left(sweep: Sweep) -> None:
    machine, made = sweep.fresh()
    assert (serving(machine), asked(machine)) == (["a"], 200)
    found = set()
    for number, world in enumerate(sweep.points("do")):
        machine = world.begin(sweep.state)
        assert asked(machine) == 200, f"at point {number} nobody answers"
        recover(sweep.state, machine, made)
        [left] = serving(machine)
        replayed = Journal(made.directory).replay()
        assert (asked(machine), replayed.finished, replayed.slot) == (200, True, left.partition(".")[2])
        assert sorted(machine.links.spaces) == ["", f"vmtool-{left}"], "no other namespace is left"
        found.add(left)
    assert found == {"a", "a.b"}, "before the new one is in use it goes, and afterwards the old one"


def test_the_new_one_has_the_keys_and_the_network_of_the_old_one(sweep: Sweep) -> None:
    machine, made = sweep.fresh()
    kept = [f"{made.directory}/secret/{name}" for name in ("api-key", "manager-key", "metrics-key")]
    before = [machine.tree.read(path) for path in kept]
    do(sweep.state, machine, made)
    assert [machine.tree.read(path) for path in kept] == before
    assert machine.exists(str(sweep.state.network("a") / "network.json"))
    assert not machine.exists(str(made.directory / "net"))
    assert Journal(made.directory).replay().retired == []


def test_the_ports_move_by_one_change_and_only_once_the_new_one_is_proven() -> None:
    lines = [action.shell() for step in apply.in_order(upgrade().steps) for action in step.actions]
    move = next(number for number, line in enumerate(lines) if "-I \\1" in line)
    assert "CNI_COMMAND=ADD" in lines[move - 1] and "/portmap" in lines[move - 1]
    before, after = lines[:move - 1], lines[move + 1:]
    assert not any("CNI_COMMAND=ADD" in line and "/portmap" in line for line in before)
    assert any("--proof" in line for line in before)
    assert not any("127.0.0.1:8000" in line for line in before), "until then the old one answers there"
    assert any("127.0.0.1:8000/v1/chat/completions" in line for line in after)
    assert any("/drain" in line for line in after)


def test_how_long_answers_may_take_is_bounded() -> None:
    for made, seconds in ((upgrade(), 300), (upgrade(wish(timeouts={"drain": 60})), 60), (upgrade(drain=5.0), 5),
                          (upgrade(wish(timeouts={"drain": 60}), drain=5.0), 5)):
        assert any(f"at most {seconds} s" in step.title and "come to its end" in step.title for step in made.steps)


PUBLISHED = {"publish": ["8000"]}


@pytest.mark.parametrize(("new", "running", "what"), [
    (wish(network={"publish": ["9000"]}), wish(), "spec.network"),
    (wish(network={**PUBLISHED, "subnet": "10.9.0.0/24"}), wish(), "spec.network"),
    (wish(tls={"source": "ca"}), wish(), "plain HTTP"),
    (wish(), wish(tls={"source": "ca"}), "speak TLS"),
    (wish(network={}), wish(network={}), "publishes no port"),
    (wish(), wish(runtime={"handler": "libvirt"}), "libvirt"),
])
def test_what_clients_would_notice_is_refused_with_the_way_that_has_a_gap(new: Spec, running: Spec, what: str) -> None:
    with pytest.raises(Refused) as error:
        upgrade(new, running)
    assert any(what in line for line in error.value.details)


def test_what_has_no_room_beside_the_old_one_is_said_with_what_a_gap_costs() -> None:
    total = facts().host.memory.total or 0
    with pytest.raises(NotReady, match="a cannot be upgraded without a gap") as error:
        upgrade(memory=total - (1 << 30))
    assert any("beside the" in line for line in error.value.details)
    assert error.value.hint == ("with a gap of about 41 s, as its last start took: vmtool stop a && vmtool upgrade a")


def test_a_front_that_cannot_take_leave_is_not_cut_off() -> None:
    with pytest.raises(NotReady, match="without a gap") as error:
        upgrade(manage=0)
    assert any("takes no leave" in line for line in error.value.details)


def test_another_instances_spec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text("apiVersion: vmtool/v1\nkind: Runtime\nmetadata: {name: b}\nspec:\n  model: {name: m, path: /m}\n")
    with pytest.raises(Refused, match=r"metadata\.name is b, not a") as error:
        wanted_spec(wish(), "a", None, path)
    assert error.value.hint == f"vmtool run {path}"


def test_an_image_is_named_as_in_a_spec() -> None:
    assert wanted_spec(wish(), "a", "vmtool/y:2", None).spec.image == "vmtool/y:2"
    with pytest.raises(Refused, match="not the name of an image"):
        wanted_spec(wish(), "a", "NOT an image", None)


def test_the_command_of_the_hint_is_what_was_typed() -> None:
    typed = typed_command("a", ("--image", "x"), ("--spec", None), ("--drain", 5))
    assert typed == "vmtool upgrade a --image x --drain 5"


@pytest.mark.parametrize(("held", "what", "hint"), [
    (True, "is being upgraded", "Ctrl-C"), (False, "was interrupted", "vmtool recover")])
def test_a_stop_in_between_is_refused_and_says_what_to_do(held: bool, what: str, hint: str, tmp_path: Path) -> None:
    entries = old_one().journal.entries
    halfway = replace(old_one(), paths=Paths(tmp_path / "a"), state="upgrading" if held else "interrupted",
                      journal=JournalState(state="unfinished", previous=entries), busy=held)
    with pytest.raises(VmtoolError, match=what) as error:
        promise.withdraw(State(tmp_path), halfway)
    assert hint in error.value.hint
    assert not (tmp_path / "a" / "stopped").exists()
