"""The canary: a wrong answer is not trusted; one that is none says why, and is no verdict on the model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vmtool.endpoint.actions import AskCanary
from vmtool.endpoint.client import Server
from vmtool.errors import VerificationFailed, VmtoolError
from vmtool.machine import Host

ASK = AskCanary(Server("127.0.0.1", 8000, Path("/no")), Path("/key"), "m", "Why?", "So.", "exact", Path("/evidence"), 5)


def host(message: dict[str, Any], finish: str, written: dict[Path, str]) -> Host:
    """One whose server answers with this message."""
    answer = json.dumps({"choices": [{"message": message, "finish_reason": finish}]})
    return cast(Host, SimpleNamespace(read=lambda path: b"a-key-of-16-bytes", write=written.__setitem__,
                                      request=lambda *words, **options: (200, answer)))


@pytest.mark.parametrize(("message", "finish", "kind", "said"), [
    ({"content": None, "reasoning": "Let me"}, "length", VmtoolError, "there is no answer: it reached the limit"),
    ({"content": None, "refusal": "No."}, "stop", VmtoolError, "the model refuses"),
    ({"content": None, "tool_calls": [{"function": {"name": "now"}}]}, "tool_calls", VmtoolError, "calls a tool"),
    ({"content": None}, "content_filter", VmtoolError, "content filter"),
    ({"content": "S"}, "length", VmtoolError, "the answer is cut off"),
    ({"content": "No."}, "stop", VerificationFailed, "is wrong"),
])
def test_what_is_not_the_expected_answer(message: dict[str, Any], finish: str, kind: type[VmtoolError],
                                         said: str) -> None:
    written: dict[Path, str] = {}
    with pytest.raises(kind, match=said) as raised:
        ASK.do(host(message, finish, written))
    assert type(raised.value) is kind
    assert json.loads(written[Path("/evidence")])["right"] is False


def test_the_expected_answer_is_right_whatever_else_the_model_says() -> None:
    written: dict[Path, str] = {}
    ASK.do(host({"content": "So.", "reasoning": "Let me"}, "length", written))
    assert json.loads(written[Path("/evidence")]) | {"answer": "So.", "right": True} == json.loads(
        written[Path("/evidence")])


def test_an_answer_with_half_of_a_character_is_kept_as_evidence() -> None:
    written: dict[Path, str] = {}
    with pytest.raises(VerificationFailed):
        ASK.do(host({"content": "So\ud800"}, "stop", written))
    assert written[Path("/evidence")].encode()
