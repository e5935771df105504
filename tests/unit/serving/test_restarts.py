"""The decision whether a dead server is started again, and the lines that say so."""

from __future__ import annotations

import json

import pytest

from vmtool.serving.arguments import parse
from vmtool.serving.events import event_text, read_events
from vmtool.serving.restarts import LONGEST_WAIT, STEADY_SECONDS, RestartPolicy, Restarts

OWN = ["--model", "/m", "--served-model-name", "m", "--listen", "0.0.0.0:1", "--api-key-file", "/k"]


def test_each_wait_of_a_row_is_twice_the_one_before() -> None:
    restarts = Restarts(RestartPolicy(limit=13))
    waits = [restarts.next_wait(-9, 1.0) for _ in range(13)]
    assert waits == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
    assert restarts.next_wait(-9, 1.0) is None, "the fourteenth in a row"


def test_a_steady_time_begins_a_new_row() -> None:
    restarts = Restarts(RestartPolicy(limit=2))
    for _ in range(100):
        assert restarts.next_wait(1, STEADY_SECONDS) == 0
        assert restarts.next_wait(1, STEADY_SECONDS - 1) == 1
    assert restarts.total == 200
    assert restarts.next_wait(1, None) is None


@pytest.mark.parametrize(("policy", "code", "again"), [
    ("on-failure", 1, True), ("on-failure", -9, True), ("on-failure", 0, False),
    ("always", 0, True), ("always", -11, True), ("no", 1, False), ("no", 0, False)])
def test_the_policy_and_the_exit_status_decide(policy: str, code: int, again: bool) -> None:
    restarts = Restarts(RestartPolicy(policy))  # type: ignore[arg-type]
    assert (restarts.next_wait(code, 10.0) is not None) == again


def test_who_says_nothing_has_it_brought_back_whatever_its_exit_status() -> None:
    """vLLM ends with 0 when its engine core was killed."""
    assert Restarts(RestartPolicy()).next_wait(0, 10.0) == 0


def test_what_never_answered_is_not_started_again() -> None:
    restarts = Restarts(RestartPolicy("always"))
    assert restarts.next_wait(1, None) is None
    assert restarts.next_wait(1, 5.0) == 0
    assert restarts.next_wait(1, None) == 1, "it has been seen to work"


def test_a_limit_of_millions_waits_no_longer() -> None:
    assert RestartPolicy().wait(10**9) == LONGEST_WAIT
    assert RestartPolicy(backoff=0).wait(50) == 0


@pytest.mark.parametrize("words", [
    ("--restart", "sometimes"), ("--restart-backoff", "nan"), ("--restart-backoff", "-1"),
    ("--restart-backoff", "1e9"), ("--restart-limit", "0"), ("--restart-limit", "x"),
    ("--grace", "nan"), ("--grace", "inf"), ("--grace", "-1")])
def test_a_policy_or_a_time_that_is_none_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([*OWN, *words])
    assert words[0] in capsys.readouterr().err


def test_an_event_is_found_in_a_log_wherever_its_line_begins() -> None:
    line = event_text(12.3456, "server-died", how="killed by SIGKILL", restart=1)
    text = f"half a line of an enginevmtool     3.20 s  {line}\nvmtool 1.00 s  started\n"
    assert list(read_events(text)) == [
        {"at": 12.346, "event": "server-died", "how": "killed by SIGKILL", "restart": 1}]


@pytest.mark.parametrize("document", [
    "{}", '{"at": 1, "event": "rm"}', '{"at": "x", "event": "server-died"}', '{"at": NaN, "event": "server-died"}',
    '{"at": true, "event": "server-died"}', "{nonsense}", '{"at": 1e999, "event": "server-died"}', "{" * 2000,
    json.dumps({"at": 1, "event": "server-died", "how": "x" * 3000})])
def test_what_is_no_event_of_the_front_is_left_out(document: str) -> None:
    assert list(read_events(f"vmtool     3.20 s  event {document}\n")) == []


def test_of_an_event_only_plain_values_are_taken() -> None:
    line = 'vmtool 3.20 s  event {"at": 1, "event": "server-died", "deep": [[1]], "how": "x"}'
    assert list(read_events(line)) == [{"at": 1, "event": "server-died", "how": "x"}]
