"""What is read of each instance, and what is not read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.launch.cases import actions, plan, wish
from vmtool.endpoint.actions import AskCanary, AwaitHealth
from vmtool.host import daemons, processes
from vmtool.instance.instance import Instance, Paths
from vmtool.instance.read import read_instance
from vmtool.paths import State
from vmtool.plan import to_json
from vmtool.serving.events import event_text
from vmtool.serving.restarts import RestartPolicy
from vmtool.watch import facts
from vmtool.watch.facts import PATIENCE, Instances, read_promise
from vmtool.watch.model import Memory
from vmtool.watch.world import LocalWorld

JOURNAL = Path(__file__).parents[2] / "data" / "journals" / "launch-runc.jsonl"
RECORD = JOURNAL.parents[1] / "instances" / "runc" / "instance.json"
RESTART = {"restart": {"policy": "always", "backoff": 2.0, "limit": 5}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = State(tmp_path / "s").instance("a")
    made.mkdir(parents=True)
    (made / "journal.jsonl").write_bytes(JOURNAL.read_bytes())
    (made / "instance.json").write_bytes(RECORD.read_bytes())
    return made


def write(directory: Path, name: str, document: object) -> None:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


def test_a_promise_is_what_the_instances_own_files_say(directory: Path) -> None:
    write(directory, "spec.json", {"spec": {**RESTART, "strict": True}})
    write(directory, "plan.json", {"steps": [{"actions": [
        {"kind": "plan.MakeDir", "path": "/x"},
        {"kind": "endpoint.AwaitHealth", "server": {"host": "h", "port": 1, "result": "/r"}, "pidfile": "/p",
         "log": "/l", "deadline": 100.0},
        {"kind": "endpoint.AskCanary", "server": {"host": "h", "port": 1, "result": "/r"}, "key": "/k", "model": "m",
         "prompt": "Why?", "expect": "So.", "match": "exact", "evidence": "/e", "deadline": 9.0}]}]})
    write(directory, "evidence/proof.json", {"claims": [{"id": "tee", "verdict": "failed"},
                                                        {"id": "image.digest", "verdict": "proven"}]})
    promise = read_promise(Paths(directory))
    assert promise.policy == RestartPolicy("always", 2.0, 5)
    assert (promise.strict, promise.patience, promise.proven) == (True, 200.0, frozenset(["image.digest"]))
    assert promise.canary is not None
    assert (promise.canary.prompt, promise.canary.server.host) == ("Why?", "h")


@pytest.mark.parametrize("tls", [{}, {"tls": {"source": "ca", "names": ["a.example"]}}], ids=["plain", "tls"])
def test_the_files_that_a_launch_writes_are_understood(directory: Path, tls: dict[str, object]) -> None:
    """The very plan and spec of a launch, as its records have them: its question is asked again word by word."""
    spec = wish(restart={"policy": "always"}, strict=True, **tls)
    made = plan(spec)
    write(directory, "plan.json", to_json(made))
    (directory / "spec.json").write_text(spec.model_dump_json(indent=2, by_alias=True))
    promise = read_promise(Paths(directory))
    [asked] = [action for action in actions(made) if isinstance(action, AskCanary)]
    [waited] = [action for action in actions(made) if isinstance(action, AwaitHealth)]
    assert promise.canary == asked
    assert promise.patience == 2 * waited.deadline
    assert (promise.policy, promise.strict) == (spec.spec.restart.asked, True)


def test_a_plan_that_cannot_be_read_takes_the_question_away_and_not_the_promise(directory: Path) -> None:
    write(directory, "spec.json", {"spec": RESTART})
    write(directory, "plan.json", {"steps": [{"actions": [{"kind": "endpoint.AskCanary", "server": 7}]}]})
    promise = read_promise(Paths(directory))
    assert (promise.policy.policy, promise.canary, promise.patience) == ("always", None, PATIENCE)


@pytest.mark.parametrize("spec", [
    {"spec": {}}, {}, 7, {"spec": {"restart": {"policy": "perhaps"}}}, {"spec": {"restart": []}},
    {"spec": {"restart": {"policy": "no", "backoff": 1, "limit": 1}}}])
def test_what_an_older_vmtool_launched_or_what_is_damaged_is_never_started(directory: Path, spec: object) -> None:
    """An older one left no mark when it stopped it."""
    write(directory, "spec.json", spec)
    assert read_promise(Paths(directory)).policy.policy == "no"


def test_without_a_plan_there_is_no_question_and_a_usual_patience(directory: Path) -> None:
    write(directory, "spec.json", {"spec": RESTART})
    promise = read_promise(Paths(directory))
    assert (promise.canary, promise.patience, promise.strict) == (None, PATIENCE, False)


def test_files_that_stay_the_same_are_read_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(directory, "spec.json", {"spec": RESTART})
    reads: list[str] = []
    def read(state: State, name: str) -> Instance:
        reads.append(name)
        return read_instance(state, name)

    monkeypatch.setattr(facts, "read_instance", read)
    living: list[int | None] = [4242, 4242, None]
    monkeypatch.setattr(daemons, "living", lambda pidfile, certain=False: living.pop(0))
    seen = Instances(State(directory.parents[1]))
    states = [[(one.instance.state, bool(one.run)) for one in seen.read()] for _ in range(3)]
    assert states == [[("running", True)], [("running", True)], [("stopped", False)]]
    assert reads == ["a"]


def test_a_person_who_stopped_it_is_heard(directory: Path) -> None:
    seen = Instances(State(directory.parents[1]))
    assert [one.withdrawn for one in seen.read()] == [False]
    (directory / "stopped").touch()
    assert [one.withdrawn for one in seen.read()] == [True]


def test_no_instances_are_none(tmp_path: Path) -> None:
    assert list(Instances(State(tmp_path)).read()) == []


@pytest.mark.parametrize(("text", "memory"), [
    ("{}", Memory()), ("[]", Memory()), ("{", Memory()), ("", Memory()), ('{"boot": "B"}', Memory()),
    ('{"promised": true, "tries": 3, "given_up": true, "boot": "B"}', Memory(True, 3, True)),
    ('{"promised": true, "tries": 3, "given_up": true, "boot": "before"}', Memory(promised=True))])
def test_what_was_written_down_holds_for_this_boot_and_a_promise_beyond_it(
        directory: Path, monkeypatch: pytest.MonkeyPatch, text: str, memory: Memory) -> None:
    world = LocalWorld.__new__(LocalWorld)
    world.state, world.boot = State(directory.parents[1]), "B"
    from tests.fakes.host import FakeHost

    world.host = FakeHost()
    (directory / "watch.json").write_text(text)
    assert world.load("a") == memory
    world.save("a", Memory(True, 2, False, run="x"))
    assert world.load("a") == Memory(True, 2, False)
    world.save("gone", Memory())
    assert not (directory.parent / "gone").exists()


@pytest.mark.parametrize(("policy", "events", "ended"), [
    ("on-failure", ("server-ended",), True), ("on-failure", ("server-died", "server-restarted"), False),
    ("on-failure", ("server-ended", "server-died"), False), ("on-failure", (), False),
    ("always", ("server-ended",), False)])
def test_an_end_without_a_failure_is_what_the_workload_says_last(
        directory: Path, monkeypatch: pytest.MonkeyPatch, policy: str, events: tuple[str, ...], ended: bool) -> None:
    """It says so of itself alone, and could have ended anyway."""
    write(directory, "spec.json", {"spec": {"restart": {"policy": policy, "backoff": 1, "limit": 1}}})
    log = Paths(directory).log
    log.parent.mkdir()
    log.write_text("".join(f"vmtool  1.00 s  {event_text(1.0, event, how='exit status 0')}\n" for event in events) +
                   "vmtool  2.00 s  vLLM ended: exit status 0\n")
    pids: list[int | None] = [4242, None]
    monkeypatch.setattr(daemons, "living", lambda pidfile, certain=False: pids.pop(0))
    seen = Instances(State(directory.parents[1]))
    assert [one.finished for _ in range(2) for one in seen.read()] == [False, ended]


@pytest.mark.parametrize(("mark", "withdrawn"), [
    ("", True), ("4242 7\n", True), ("4242 6\n", False), ("4243 7\n", False), ("nonsense", False)])
def test_the_mark_of_a_command_that_was_killed_counts_for_nothing(
        directory: Path, monkeypatch: pytest.MonkeyPatch, mark: str, withdrawn: bool) -> None:
    monkeypatch.setattr(processes, "start_time", lambda pid: "7" if pid == 4242 else None)
    write(directory, "spec.json", {"spec": RESTART})
    (directory / "stopped").write_text(mark)
    [one] = Instances(State(directory.parents[1])).read()
    assert one.withdrawn == withdrawn
