"""What is verified during a launch: before the workload gets its keys, and at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.machine import FakeMachine, containers
from tests.fakes.machine.containers import Containerd, chain_of, digest_of
from tests.unit.sweeps import launch
from tests.unit.sweeps.engine import do
from vmtool.errors import VerificationFailed, VmtoolError
from vmtool.launch.actions import RequireClaims
from vmtool.paths import State

EVIL = "docker.io/vmtool/evil:latest"
Change = Callable[[FakeMachine, Containerd, pytest.MonkeyPatch], None]


def root(machine: FakeMachine, store: Containerd, patch: pytest.MonkeyPatch) -> None:
    """The image's processes are root's."""
    patch.setattr(containers, "HARDENED", containers.HARDENED.replace("65532", "0"))


def capable(machine: FakeMachine, store: Containerd, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(containers, "HARDENED", containers.HARDENED.replace("CapEff:\t00", "CapEff:\tff"))


def silent(machine: FakeMachine, store: Containerd, patch: pytest.MonkeyPatch) -> None:
    """The kernel does not say what the process may."""
    patch.setattr(containers, "HARDENED", "Name:\tx\n")


def moved(machine: FakeMachine, store: Containerd, patch: pytest.MonkeyPatch) -> None:
    """`ctr images tag --force EVIL NAME`, after the plan was made."""
    store.images[launch.IMAGE] = digest_of(EVIL)


def moved_later(machine: FakeMachine, store: Containerd, patch: pytest.MonkeyPatch) -> None:
    """The same, just before `ctr run`: the container is another image's."""
    patch.setattr(containers, "chain_of", lambda reference: chain_of(EVIL))


@pytest.mark.parametrize(("change", "told"), [
    (root, "process.not-root"), (capable, "process.no-capabilities"), (silent, "process.not-root"),
    (moved, "points to"), (moved_later, "image.digest")])
def test_what_is_not_as_it_was_checked_gets_no_key_and_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                change: Change, told: str) -> None:
    state = State(tmp_path / "state")
    machine = launch.host(state)
    plan = launch.RUNC(state, machine)
    store = machine.containerds[str(state.containerd / "root")]
    change(machine, store, monkeypatch)
    with pytest.raises(VmtoolError) as error:
        do(state, machine, plan)
    assert error.value.code == 4
    assert told in "\n".join((error.value.message, *error.value.details))
    assert not any("receive_keys" in " ".join(argv) for argv in machine.ran), "the key was handed over"
    assert (store.tasks, store.containers) == ({}, {})


def test_a_claim_that_fails_at_the_end_ends_the_launch_and_is_kept_as_evidence(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    machine = launch.host(state)
    plan = launch.RUNC(state, machine)
    served, calls = containers.HARDENED, list[int]()

    def change() -> None:
        """The workload becomes root's once it has its key."""
        store = machine.containerds[str(state.containerd / "root")]
        if any(task.key for task in store.tasks.values()) and not calls:
            calls.append(1)
            containers.HARDENED = served.replace("65532", "0")

    machine.watch = change
    try:
        with pytest.raises(VerificationFailed, match="not-root"):
            do(state, machine, plan)
    finally:
        containers.HARDENED = served
    assert machine.containerds[str(state.containerd / "root")].tasks == {}
    proof = json.loads(machine.text(str(state.instance("a") / "evidence" / "proof.json")) or "")
    assert proof["unmet"] == ["process.not-root"]


def test_its_line_is_a_command() -> None:
    line = RequireClaims(Path("/s x"), Path("/s x/instances/a"), "key").shell()
    assert line == "vmtool --state-dir '/s x' status a --before-key || [ $? -eq 1 ]"
