"""KoalaVault's launch, translated: its words and variables are nowhere afterwards."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtool.serving import entrypoint
from vmtool.serving.koalavault import translated

KEY = "kv-0123456789abcdef"
REST = ["--model", "/models", "--", "--max-model-len", "256"]
ENVIRONMENT = {"PATH": "/bin", "BASE_URL": "https://kbs.lab"}


@pytest.mark.parametrize("words", [
    ["--koalavault-api-key", KEY, "--koalavault-model", "owner/name", *REST],
    [*REST, f"--koalavault-api-key={KEY}", "--koalavault-model=owner/name"],
    ["--koalavault-model", "other/x", "--koalavault-model", "owner/name", *REST],
])
@pytest.mark.parametrize("more", [{}, {"KOALAVAULT_API_KEY": KEY}])
def test_flags_and_variables_are_translated_and_gone(words: list[str], more: dict[str, str]) -> None:
    found = translated(words, ENVIRONMENT | more)
    assert found and found.status == 0
    assert found.argv == ("--model-key-broker", "https://kbs.lab", "--model-key-resource", "owner/name/key", *REST)
    assert found.environment == {"PATH": "/bin"} and KEY not in str(found)


def test_without_an_address_the_guests_data_hub_is_asked() -> None:
    found = translated(["--koalavault-model", "o/n"], {})
    assert found and found.argv == ("--model-key-resource", "o/n/key")


def test_a_launch_that_is_none_of_theirs_is_left_alone() -> None:
    assert translated(REST, ENVIRONMENT) is None


@pytest.mark.parametrize(("words", "status", "why"), [
    (["--koalavault-model", "o/n", "--trust-remote-code"], 7, "trust-remote-code"),
    (["--koalavault-model", "o/n", "--", "--trust_remote_code=true"], 7, "trust-remote-code"),
    (["--koalavault-api-key", KEY], 2, "--koalavault-model OWNER/NAME is missing"),
    (["--koalavault-api-ke", KEY, "--koalavault-model", "o/n"], 2, "a flag that begins with --koalavault is none"),
    (["--", f"--koalavault_apikey={KEY}"], 2, "a flag that begins with --koalavault is none"),
    ([f"--koalavault:{KEY}"], 2, "a flag that begins with --koalavault is none"),
    ([f"--koalavault_api_key={KEY}"], 2, "--koalavault-model OWNER/NAME is missing"),
    (["--koalavault-model"], 2, "missing"), (["--koalavault-model", "a"], 2, "OWNER/NAME"),
    (["--koalavault-model", "../../x"], 2, "OWNER/NAME"), (["--koalavault-model", "a/b?c"], 2, "OWNER/NAME"),
])
def test_a_launch_that_is_refused(words: list[str], status: int, why: str) -> None:
    found = translated(words, {})
    assert found and found.status == status and why in found.problem and KEY not in found.problem


@given(st.lists(st.sampled_from(["--koalavault-api-key", KEY, f"--koalavault-api-key={KEY}", "--koalavault-model",
                                 "o/n", "--model", "/m", "--"]), max_size=8))
def test_no_key_that_is_named_as_one_stays(words: list[str]) -> None:
    named = [word for place, word in enumerate(words) if word.startswith("--koalavault-api-key=") or (
        place and words[place - 1] == "--koalavault-api-key")]
    found = translated(words, {})
    if named and found:
        assert not any(word.startswith("--koalavault") for word in found.argv)


def test_the_entrypoint_starts_itself_anew_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process was started with is what proc(5) shows of it; execve(2) replaces both."""
    started: list[tuple[tuple[str, ...], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, environment: started.append((words, environment)))
    monkeypatch.setattr(os, "environ", {"PATH": "/bin", "KOALAVAULT_API_KEY": KEY, "BASE_URL": "https://kbs.lab"})
    monkeypatch.setattr(sys, "argv", ["entrypoint", "--koalavault-api-key", KEY, "--koalavault-model", "o/n", *REST])
    entrypoint.leave_koalavault()
    [(words, environment)] = started
    assert words[:4] == (sys.executable, "-P", "-m", "vmtool.serving.entrypoint") and words[-len(REST):] == tuple(REST)
    assert KEY not in str(words) and environment == {"PATH": "/bin"}
    monkeypatch.setattr(sys, "argv", ["entrypoint", *words[4:]])
    monkeypatch.setattr(os, "environ", environment)
    assert entrypoint.leave_koalavault() == 0 and len(started) == 1, "once"
    monkeypatch.setattr(sys, "argv", ["entrypoint", "--koalavault-model", "o/n", "--trust-remote-code"])
    assert entrypoint.main() == 7
