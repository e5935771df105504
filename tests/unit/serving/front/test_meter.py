"""How many tokens an answer has: what vLLM says, in whatever pieces it comes, else an estimate."""

from __future__ import annotations

import json

import pytest

from vmtool.serving.front.meter import Meter

OPENAI = {"choices": [{"message": {"content": 'say "usage": {"prompt_tokens": 999}'}}], "usage": {
    "prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46,
    "completion_tokens_details": {"reasoning_tokens": 7}, "prompt_tokens_details": {"cached_tokens": 3}}}
ANTHROPIC = {"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 5, "output_tokens": 6}}
STREAM = (b'event: message_start\ndata: {"message":{"usage":{"input_tokens":5,"output_tokens":0}}}\n\n'
          b'data: {"delta":{"text":"a"}}\n\ndata: {"usage":{"output_tokens":9}}\n\n')


@pytest.mark.parametrize("size", [1, 2, 7, 50, 10_000])
@pytest.mark.parametrize(("answer", "events", "counted"), [
    (json.dumps(OPENAI).encode(), False, (12, 34)),
    (json.dumps(ANTHROPIC, separators=(",", ":")).encode(), False, (5, 6)),
    (STREAM, True, (5, 9)), (b'{"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}', False, (8, 0)),
    (b'data: {"text": "data: data: "}\n\n' * 6, True, (100, 6)), (b'{"text": "no usage"}', False, (100, 0)),
])
def test_tokens_are_counted_in_whatever_pieces_they_come(answer: bytes, events: bool, counted: tuple[int, int],
                                                         size: int) -> None:
    meter = Meter(400, events=events)
    for at in range(0, len(answer), size):
        meter.see(answer[at:at + size])
    assert meter.counted(whole=True) == counted


def test_an_answer_that_breaks_off_counts_what_has_passed() -> None:
    meter = Meter(0, events=True)
    meter.see(STREAM[:130] + b"data: {}\n\n" * 20)
    assert meter.counted(whole=False) == (5, 22)
