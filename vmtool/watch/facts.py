"""Every instance as watch sees it, read every few seconds, hence cheap: what has not changed is not read again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from vmtool.endpoint.actions import AskCanary, AwaitHealth
from vmtool.errors import VmtoolError
from vmtool.foreign import parse_json, read_regular
from vmtool.frozen import dataclass
from vmtool.host import event_log
from vmtool.instance.instance import Instance, Paths
from vmtool.instance.promise import is_stopped, started_by_watch
from vmtool.instance.read import read_instance, refreshed
from vmtool.paths import NAME, State
from vmtool.plan import Action, action_from_json
from vmtool.serving.events import FINISHED, read_events
from vmtool.serving.restarts import POLICIES, USUAL, RestartPolicy

LARGEST = 16 << 20
# Of the workload's log: its last event is at its end.
LAST = 64 << 10
PATIENCE = 900.0
NEVER = RestartPolicy("no")


@dataclass(frozen=True)
class Promise:
    """What an instance's own files say of how it is kept.

    Args:
        canary: the question of its launch; None without one.
        patience: seconds that it may be without health: twice what its launch waited at most.
        proven: ids of the claims that were proven.
    """

    policy: RestartPolicy = USUAL
    strict: bool = False
    canary: AskCanary | None = None
    patience: float = PATIENCE
    proven: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Watched:
    """An instance and its promise.

    Args:
        run: names its process; empty when it does not run.
        withdrawn: a person has stopped it. ours: a watch is starting it.
        finished: see `Seen`.
    """

    instance: Instance
    promise: Promise
    run: str
    withdrawn: bool
    ours: bool
    finished: bool


@dataclasses.dataclass
class Instances:
    """All of them, with what was read of each kept as long as its files stay the same."""

    state: State
    kept: dict[str, tuple[object, Instance, Promise]] = field(default_factory=dict)

    def read(self) -> Iterator[Watched]:
        """One after the other, by name; one that cannot be read is "damaged"."""
        try:
            names = sorted(name for name in os.listdir(self.state.instances) if NAME.fullmatch(name))
        except FileNotFoundError:
            names = []
        self.kept = {name: self.kept[name] for name in names if name in self.kept}
        for name in names:
            directory = self.state.instance(name)
            instance, promise = self._known(name, directory)
            yield Watched(instance, promise, f"{instance.pid} {_text(instance.paths.pidfile)}" if instance.pid else "",
                          is_stopped(instance.paths), started_by_watch(self.state, instance),
                          not instance.pid and promise.policy.policy == "on-failure" and finished(instance.paths))

    def _known(self, name: str, directory: Path) -> tuple[Instance, Promise]:
        marks = tuple(_mark(directory / each) for each in ("journal.jsonl", "instance.json", "spec.json"))
        if name in self.kept and self.kept[name][0] == marks:
            _, instance, promise = self.kept[name]
            return refreshed(self.state, instance), promise
        try:
            instance = read_instance(self.state, name)
        except VmtoolError:  # it has gone since it was listed
            return Instance(name, Paths(directory), None, "damaged", None), Promise(policy=NEVER)
        if instance.damage:
            return instance, Promise(policy=NEVER)
        promise = read_promise(instance.paths)
        if instance.journal.at_rest:  # else it may come to its end at any moment
            self.kept[name] = marks, instance, promise
        return instance, promise


def read_promise(paths: Paths) -> Promise:
    """Of what another version of vmtool launched nothing is promised: it may have been stopped without a mark."""
    spec, plan = _document(paths.spec), _document(paths.plan)
    try:
        body = spec["spec"]
        restart = body["restart"]
        policy = RestartPolicy(restart["policy"], float(restart["backoff"]), int(restart["limit"]))
        promise = Promise(policy, body.get("strict") is True, proven=_proven(paths))
    except (LookupError, TypeError, ValueError, AttributeError):
        return Promise(policy=NEVER)
    if policy.policy not in POLICIES:
        return replace(promise, policy=NEVER)
    try:
        actions = [action for step in plan["steps"] for action in map(_action, step["actions"]) if action]
    except (LookupError, TypeError, ValueError, AttributeError):
        return promise  # it is kept as it was promised, without the question of its launch
    return replace(
        # The last one is asked where clients ask.
        promise, canary=next((one for one in reversed(actions) if isinstance(one, AskCanary)), None),
        patience=next((2 * one.deadline for one in actions if isinstance(one, AwaitHealth)), PATIENCE))


def finished(paths: Paths) -> bool:
    """Whether the newest of the workload's own events is its end without a failure."""
    said = [event["event"] for event in read_events(event_log.tail(paths.log, LAST))]
    return said[-1:] == [FINISHED]


def _proven(paths: Paths) -> frozenset[str]:
    """Ids of the claims that were proven at the newest whole verification."""
    proof = _document(paths.proof)
    return frozenset(claim["id"] for claim in proof.get("claims", ()) if claim["verdict"] == "proven")


def _action(record: Any) -> Action | None:
    wanted = ("endpoint.AskCanary", "endpoint.AwaitHealth")
    return action_from_json(record) if record["kind"] in wanted else None


def _document(path: Path) -> Any:
    try:
        return parse_json(read_regular(path, LARGEST))
    except (OSError, ValueError, VmtoolError):
        return {}


def _mark(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _text(path: Path) -> str:
    try:
        return path.read_text()[:100]
    except OSError:
        return ""

