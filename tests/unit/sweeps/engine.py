"""Killing a plan at every point, undoing it, and finding the machine as it was.

A plan is done by the real engine on a `FakeMachine`. At each point of it the machine and the journal are copied: that
is what SIGKILL leaves at that point, with no line of vmtool's run after it. Points lie before and after each record of
the journal, where an observer of `vmtool.engine.hooks` stands, hence before and after each action; and, within an
action and within an undo, after each single change of the machine. Each copy that differs from the one before, in the
machine or in what is on record to be undone, is then recovered as by `vmtool recover`.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.machine import FakeMachine
from tests.unit.gpu.acting import Quiet, on
from vmtool.engine import apply, hooks, transactions
from vmtool.engine.journal import Journal
from vmtool.errors import VmtoolError
from vmtool.paths import State
from vmtool.plan import Action, Plan

Boot = Callable[[State], FakeMachine]
Make = Callable[[State, FakeMachine], Plan]
# Empty directories below vmtool's own state and cache stay: nobody misses the place.
OWN = ("/var/cache/vmtool", "/run/vmtool")


@dataclass(frozen=True)
class Case:
    """A plan of a planner, and the machine that it is for.

    Args:
        boot: the machine before the plan.
        make: the plan; the machine is there to be read.
        left: what an undo may leave: a regular expression for keys of `FakeMachine.state` -> why it may.
        undone: the plan takes the place of another one; its undo, or that of the other, leads to this machine, and one
            of the two is on record at any time.
        all_or_nothing: from some point on the plan is done for good, and its undo leads nowhere; before it nothing is.
        repeated: the plan has no undo: done again after the kill, it comes to its end.
    """

    boot: Boot
    make: Make
    left: Mapping[str, str] = field(default_factory=dict)
    undone: Boot | None = None
    all_or_nothing: bool = False
    repeated: bool = False


@dataclass(frozen=True)
class World:
    """A machine, and vmtool's own files as they are on the disk."""

    machine: FakeMachine
    files: Mapping[Path, bytes]

    @classmethod
    def now(cls, state: State, machine: FakeMachine) -> World:
        """A copy."""
        return cls(copy.deepcopy(machine), {path: path.read_bytes() for path in state.root.rglob("*")
                                            if path.is_file()})

    def begin(self, state: State) -> FakeMachine:
        """Go on from there, which can be done once."""
        shutil.rmtree(state.root, ignore_errors=True)
        for path, data in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self.machine


@dataclass
class Sweep:
    """The case with a state directory that is emptied for each try."""

    case: Case
    state: State
    plan: Plan | None = None

    def fresh(self) -> tuple[FakeMachine, Plan]:
        """The machine as it is before, and the plan: the same each time, since a planner is a pure function."""
        shutil.rmtree(self.state.root, ignore_errors=True)
        machine = self.case.boot(self.state)
        self.plan = self.plan or self.case.make(self.state, machine)
        assert self.plan.changes, "a plan without changes proves nothing"
        machine.tree.make_dir(str(self.plan.directory), 0o700, parents=0o700)
        return machine, self.plan

    def wanted(self) -> dict[str, str]:
        """The state that an undo must lead to."""
        machine, plan = self.fresh()
        if self.case.repeated:
            do(self.state, machine, plan)
        elif self.case.undone:
            machine = self.case.undone(self.state)
        return machine.state()

    def done(self) -> dict[str, str]:
        """The state that the plan leads to."""
        machine, plan = self.fresh()
        do(self.state, machine, plan)
        return machine.state()

    def differences(self, machine: FakeMachine, wanted: Mapping[str, str]) -> list[str]:
        """What is not as it should be, but for what may be left."""
        after = machine.state()
        keys = [key for key in sorted({*wanted, *after}) if wanted.get(key) != after.get(key)]
        return [f"{key}: {wanted.get(key)} -> {after.get(key)}" for key in keys
                if not any(re.fullmatch(pattern, of_whom(key)) for pattern in self.case.left)
                and not (of_whom(key) != key and of_whom(key) in wanted)
                and not (self._is_own(key) and (wanted.get(key) or after[key]).startswith("('dir'"))]

    def _is_own(self, key: str) -> bool:
        return key.removeprefix("files ").startswith((*OWN, str(self.state.root)))

    def points(self, how: str) -> list[World]:
        """The world at each point while the plan is done ("do"), while all of it is undone ("undo"), or while a
        recovery undoes what a kill left right before the end ("recover")."""
        if how == "recover":
            machine, plan = self.points("do")[-1].begin(self.state), self.fresh_plan()
        else:
            machine, plan = self.fresh()
        if how == "undo":
            do(self.state, machine, plan)
        found: list[World] = []
        latest: tuple[int, bytes] | None = None

        def look() -> None:
            nonlocal latest
            now = machine.effects, on_record(plan)
            if now != latest:
                found.append(World.now(self.state, machine))
            latest = now

        machine.watch = look
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hooks, "observers", (lambda event: look(),))
            {"do": do, "undo": undo, "recover": recover}[how](self.state, machine, plan)
        # At the last point the plan is done, and on record as such.
        return found[:-1] if how == "do" else found

    def fresh_plan(self) -> Plan:
        """The plan, the machine left alone."""
        assert self.plan
        return self.plan

    def killed(self, how: str) -> Iterator[str]:
        """Recover the world at each point; what is not as it should be after that."""
        wanted, done, (_, plan) = self.wanted(), self.done(), self.fresh()
        for number, world in enumerate(self.points(how)):
            machine = world.begin(self.state)
            if how == "undo" and self.unseen(plan, machine, done):
                yield f"killed at point {number} of an undo: recover does not see it"
            recover(self.state, machine, plan)
            if how == "undo":
                undo(self.state, machine, plan)
            self.finish(plan, machine)
            lines = self.differences(machine, wanted)
            if lines and self.case.all_or_nothing and not self.differences(machine, done):
                wanted, lines = done, []
            yield from (f"killed at point {number}: {line}" for line in lines)

    def unseen(self, plan: Plan, machine: FakeMachine, done: Mapping[str, str]) -> bool:
        """Whether an undo has begun to change the machine, and nothing on record says so."""
        applied = Journal(plan.directory).replay().state == "applied"
        return applied and not self.case.undone and bool(self.differences(copy.deepcopy(machine), done))

    def finish(self, plan: Plan, machine: FakeMachine) -> None:
        """What leads to the wanted state from there."""
        if self.case.undone:
            undo(self.state, machine, plan)
        elif self.case.repeated:
            do(self.state, machine, self.case.make(self.state, machine))

    def failed(self) -> Iterator[str]:
        """Let each action fail when it has done everything, and the first before that; the engine itself undoes."""
        wanted, done, (_, plan) = self.wanted(), self.done(), self.fresh()
        count = sum(len(step.actions) for step in apply.in_order(plan.steps) if not step.skip)
        for number in range(-1, count):
            machine, plan = self.fresh()
            with failing(plan, max(number, 0), late=number >= 0), pytest.raises(VmtoolError, match="it fails") as error:
                do(self.state, machine, plan)
            assert error.value.details == (), error.value.details
            self.finish(plan, machine)
            lines = self.differences(machine, wanted)
            if lines and self.case.all_or_nothing and not self.differences(machine, done):
                wanted, lines = done, []
            yield from (f"action {number} failed: {line}" for line in lines)


def of_whom(key: str) -> str:
    """What a killed write left is as its file: nobody counts it, and the next write of that file removes it."""
    return re.sub(r"/\.([^/]+)\.[0-9a-f]{8}\.tmp$", r"/\1", key)


def booted(boot: Boot, make: Make) -> Boot:
    """A machine on which a plan was done."""
    kept: dict[State, World] = {}

    def later(state: State) -> FakeMachine:
        if state not in kept:
            machine = boot(state)
            do(state, machine, make(state, machine))
            kept[state] = World.now(state, machine)
        kept[state].begin(state)
        return copy.deepcopy(kept[state].machine)

    return later


def do(state: State, machine: FakeMachine, plan: Plan) -> None:
    """Apply it as the commands do."""
    transactions.run_transaction(state, plan.directory, "a test", lambda: plan, Quiet(), on=on(machine))


def recover(state: State, machine: FakeMachine, plan: Plan) -> None:
    """As `vmtool recover`."""
    problems = transactions.recover(state, plan.directory, Quiet(), on=on(machine))
    assert problems == [], "\n".join(problems)


def undo(state: State, machine: FakeMachine, plan: Plan) -> None:
    """As `vmtool rm`, `net del` and the like begin."""
    with transactions.working_on(state, plan.directory, "a test"):
        problems = apply.undo(plan.directory, Quiet(), on=on(machine))
    assert problems == [], "\n".join(problems)


def on_record(plan: Plan) -> bytes:
    """What the journal says, but for what begins and ends."""
    path = Journal(plan.directory).path
    lines = path.read_bytes().splitlines() if path.exists() else []
    return b"".join(line for line in lines if b'"event": "begin"' not in line and b'"event": "end"' not in line)


class failing:  # noqa: N801  (used like a function)
    """The action of this number of a plan fails, whatever kind it is of; in an undo nothing does."""

    def __init__(self, plan: Plan, number: int, *, late: bool) -> None:
        steps = [step for step in apply.in_order(plan.steps) if not step.skip]
        actions = [action for step in steps for action in step.actions]
        self.kind, self.late = type(actions[number]), late
        self.left = sum(type(action) is self.kind for action in actions[:number + 1])
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        done: Callable[[Action, Any], None] = self.kind.do

        def do_or_fail(action: Action, host: Any) -> None:
            self.left -= 1
            if self.left or self.late:
                done(action, host)
            if not self.left:
                raise VmtoolError("it fails here")

        self.patch.setattr(self.kind, "do", do_or_fail)

    def __exit__(self, *error: object) -> None:
        self.patch.undo()
