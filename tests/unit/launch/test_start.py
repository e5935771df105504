"""Starting again what was launched: from the spec that vmtool wrote down, which means what the file meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from tests.fakes.launches import launched
from tests.unit.launch.cases import STATE, facts, instance, plan, wish
from vmtool.engine.journal import Entry, JournalState
from vmtool.errors import VmtoolError
from vmtool.host import processes
from vmtool.instance import promise
from vmtool.instance.instance import Instance
from vmtool.launch.commands import damage
from vmtool.launch.pipeline import plan_launch
from vmtool.paths import State
from vmtool.plan import Remove, Step
from vmtool.rendering import shipped
from vmtool.spec.facts import read_own_spec
from vmtool.spec.load import read_spec
from vmtool.stage.files import plan_clearing
from vmtool.stage.launch import digest

EXAMPLES = sorted(shipped("images").rglob("*.yaml"))
MORE = """\
apiVersion: vmtool/v1
kind: Runtime
metadata: {name: a}
spec:
  runtime: {handler: kata, tee: snp}
  model: {name: m, path: /m}
  vllm:
    args: {max-model-len: 4096, enforce-eager: true, hf-overrides: {a: {b: 1.5}}}
    env: {VLLM_LOGGING_LEVEL: DEBUG}
    files: {chat-template: ./chat.jinja}
  resources: {memory: 20Gi, cpus: 1.5, accelerators: {bdf: ["0000:17:00.0"]}}
  network: {publish: ["0.0.0.0:8000:8000"]}
  canary: {prompt: "2+2?", expect: "4", match: contains}
  restart: {policy: always, backoff: 2.5, limit: 3}
  strict: true
"""


def specs(tmp_path: Path) -> list[Path]:
    more = tmp_path / "more.yaml"
    more.write_text(MORE)
    return [*(path for path in EXAMPLES if "kind: Runtime" in path.read_text()), more]


def test_a_spec_that_was_written_down_is_the_same_spec(tmp_path: Path) -> None:
    assert len(specs(tmp_path)) >= 3
    for path in specs(tmp_path):
        spec = read_spec(path)
        kept = tmp_path / "spec.json"
        kept.write_text(spec.model_dump_json(indent=2, by_alias=True) + "\n")  # as `write the instance's files` does
        again = read_own_spec(kept)
        assert digest(again) == digest(spec), path
        assert [argument.words for argument in again.spec.server_arguments] == [
            argument.words for argument in spec.spec.server_arguments]
        assert again.spec.restart == spec.spec.restart


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spec": 1}', '{"apiVersion": "vmtool/v9"}'])
def test_a_spec_that_cannot_be_read_is_reported_with_a_way_on(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(VmtoolError, match=r"spec\.json cannot be read") as error:
        read_own_spec(path)
    assert "vmtool run SPEC" in error.value.hint


def test_who_stops_what_watch_starts_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the mark is there then, although the start took away the one that it found."""
    directory = tmp_path / "instances" / "a"
    directory.mkdir(parents=True)
    starting, ended = instance(directory, "starting", None), instance(directory, "failed", None)
    looks = [True, True, False]

    def is_ours(state: State, one: Instance) -> bool:
        (directory / "stopped").unlink(missing_ok=True)
        return looks.pop(0)

    monkeypatch.setattr(promise, "started_by_watch", is_ours)
    monkeypatch.setattr(promise, "read_instance", lambda state, name: ended)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(processes, "start_time", lambda pid: "7")
    assert promise.withdraw(State(tmp_path), starting) is ended
    assert (directory / "stopped").exists()


def test_what_a_person_starts_just_now_is_not_stopped_behind_the_back(tmp_path: Path) -> None:
    starting = instance(tmp_path / "instances" / "a", "starting", None)
    with pytest.raises(VmtoolError, match="a is starting"):
        promise.withdraw(State(tmp_path), starting)
    assert not (tmp_path / "instances" / "a" / "stopped").exists()


def test_only_a_person_takes_the_count_of_tries_away() -> None:
    earlier = instance(Path("/s/instances/a"), "stopped", None)
    for again, count in (("", 1), ("person", 1), ("watch", 0)):
        lines = [action.shell() for action in plan_clearing(earlier, again=again).actions]  # type: ignore[arg-type]
        assert sum("watch.json" in line for line in lines) == count
        assert any(line.endswith("/stopped") for line in lines)
        assert any(line.endswith("/watch-canary.json") for line in lines), "of a launch that may ask nothing now"


@pytest.mark.parametrize(("again", "kept"), [("", False), ("person", True), ("watch", True)])
def test_what_is_started_again_keeps_its_key_also_when_that_fails(again: str, kept: bool) -> None:
    """Neither what is cleared first nor the undo of a failed try removes it."""
    first = plan()
    entries = [Entry(number, step.title, step.undo) for number, step in enumerate(first.steps)]
    earlier = replace(instance(Path("/s/instances/a"), "stopped", None),
                      journal=JournalState(state="applied", entries=entries))
    launch, host = launched(STATE, wish(), facts(earlier=earlier))
    made = plan_launch(replace(launch, again=again), host)  # type: ignore[arg-type]
    secret = "rm -rf --one-file-system /s/instances/a/secret"
    doing = {action.shell() for step in made.steps for action in step.actions}
    undoing = {action.shell() for step in made.steps for action in step.undo}
    assert (secret not in doing, secret not in undoing) == (kept, kept)
    assert any("[ -e /s/instances/a/secret/api-key ] ||" in line for line in doing), "a new one only when there is none"


def test_a_key_that_was_kept_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rm` removes it with the directory; what is outside of that, it does not forgive."""
    state = State(tmp_path)
    directory = state.instance("a")
    found = [Step("the key", undo=(Remove(directory / "secret"),))]
    monkeypatch.setattr(damage, "read_remains", lambda *words: tuple(found))
    damage.require_gone(FakeHost(), state, directory)
    found.append(Step("a namespace", undo=(Remove(Path("/run/netns/x")),)))
    with pytest.raises(VmtoolError, match="still there") as error:
        damage.require_gone(FakeHost(), state, directory)
    assert error.value.details == ("on this machine: a namespace",)
