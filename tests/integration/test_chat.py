"""`vmtool chat` at a real server, which answers in every way that an OpenAI-compatible server may: a whole answer is
printed with exit code 0, and anything else says what it is and ends with 1."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.answering import answering, event, instance, whole
from tests.integration.machine import Result
from vmtool.cli.main import run_command

JSON, EVENTS = "application/json", "text/event-stream"
DONE = b"data: [DONE]\n\n"
TOOL = [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]
ERROR = {"error": {"message": "EngineCore encountered an issue", "code": 500}}
BEGIN = event(role="assistant", content="")
HALF = event(content="The answer is ")

# The answer -> what is printed, and what the error says; without an error it is a success.
WHOLE: dict[str, tuple[bytes, str, str]] = {
    "text": (whole(content="42"), "42\n", ""),
    "no reason to end": (whole(None, content="42"), "42\n", ""),
    "reasoning and text": (whole(reasoning="thinking", content="42"), "42\n", ""),
    "parts": (whole(content=[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "42"}]), "42\n", ""),
    "null": (whole(content=None), "", "error: there is no answer: the text is empty"),
    "blank": (whole(content=" \n"), " \n\n", "error: there is no answer: the text is empty"),
    "invisible": (whole(content="\u200b\u2060\xad\xa0"), "\u200b\u2060\xad\xa0\n",
                  "error: there is no answer: the text is empty"),
    "no content": (whole(), "", "error: there is no answer: the text is empty"),
    "no choice": (b'{"choices": []}', "", "error: there is no answer: the text is empty"),
    "reasoning, cut": (whole("length", content=None, reasoning="Let me think"), "",
                       "error: there is no answer: it reached the limit of tokens"),
    "older word, cut": (whole("length", content=None, reasoning_content="Let me"), "", "  reasoning: Let me"),
    "only reasoning": (whole(content=None, reasoning="Let me think"), "",
                       "error: there is no answer: the model reasoned and said nothing\n  reasoning: Let me think"),
    "text, cut": (whole("length", content="The answ"), "The answ\n",
                  "error: the answer is cut off: it reached the limit of tokens"),
    "tool": (whole("tool_calls", content=None, tool_calls=TOOL), "", "the model calls a tool, and none was offered\n"
                                                                     "  tool: get_weather"),
    "tool, stop": (whole("stop", content="", tool_calls=TOOL), "", "  tool: get_weather"),
    "function": (whole("function_call", content=None, function_call={"name": "now"}), "", "  tool: now"),
    "refusal": (whole(content=None, refusal="I cannot help"), "",
                "error: the model refuses\n  refusal: I cannot help"),
    "filter": (whole("content_filter", content=None), "", "the server's content filter withheld it"),
    "filtered in the middle": (whole("content_filter", content="It"), "It\n", "error: the answer is cut off: the ser"),
    "aborted": (whole("abort", content="It"), "It\n", "it ended with finish_reason 'abort'"),
    "error": (json.dumps(ERROR).encode(), "", "EngineCore encountered an issue"),
    "older error": (b'{"object": "error", "message": "no room"}', "", "  no room"),
    "nothing": (b"", "", "answered something that is no chat completion"),
    "HTML": (b"<html>Bad gateway</html>", "", "  <html>Bad gateway</html>"),
    "not JSON": (whole(content="42")[:-4], "", "answered something that is no chat completion"),
    "a list": (b"[]", "", "answered something that is no chat completion"),
    "a number": (b"7", "", "answered something that is no chat completion"),
    "deep": (b"[" * 200_000, "", "answered something that is no chat completion"),
    "message is text": (b'{"choices": [{"message": "42"}]}', "", "answered something that is no chat completion"),
    "content is a number": (whole(content=42), "", "answered something that is no chat completion"),
    "large": (whole(content="x" * (1 << 20)), "", "did not answer: the answer has more than 1 MiB"),
    "escapes": (whole(content="\x1b[2J\x9b2J\rred\x07 \u202eevil \ud800 caf\xe9\r\n\tdone"),
                "\ufffd[2J\ufffd2J\ufffdred\ufffd \ufffdevil \ufffd caf\xe9\n\tdone\n", ""),
}
STREAMS: dict[str, tuple[bytes, str, str]] = {
    "text": (BEGIN + HALF + event(content="42") + event("stop") + DONE, "The answer is 42\n", ""),
    "text and end at once": (event("stop", content="42") + DONE, "42\n", ""),
    "usage": (event("stop", content="42") + b'data: {"choices": [], "usage": {}}\n\n' + DONE, "42\n", ""),
    "other lines": (b": ping\r\n\r\nevent: chunk\r\nid: 1\r\n" + event(content="42") + DONE, "42\n", ""),
    "several lines": (b'data: {"choices": [{"delta":\ndata: {"content": "42"}}]}\n\n' + DONE, "42\n", ""),
    "no blank": (b'data:{"choices":[{"delta":{"content":"42"}}]}\n\ndata:[DONE]\n\n', "42\n", ""),
    "reasoning and text": (event(reasoning="hm") + event(content="42") + event("stop") + DONE, "42\n", ""),
    "null": (BEGIN + event("stop") + DONE, "", "error: there is no answer: the text is empty"),
    "invisible": (event("stop", content="\u200b\x00") + DONE, "\u200b\ufffd\n",
                  "error: there is no answer: the text is empty"),
    "done at once": (DONE, "", "error: there is no answer: the text is empty"),
    "reasoning, cut": (BEGIN + event(reasoning="Let ") + event(reasoning="me") + event("length") + DONE, "",
                       "  reasoning: Let me"),
    "text, cut": (HALF + event("length") + DONE, "The answer is \n", "error: the answer is cut off: it reached the l"),
    "tool": (BEGIN + event(tool_calls=TOOL) + event("tool_calls") + DONE, "", "  tool: get_weather"),
    "refusal": (event(refusal="I can") + event(refusal="not") + event("stop") + DONE, "", "  refusal: I cannot"),
    "filter": (HALF + event("content_filter") + DONE, "The answer is \n", "content filter withheld it"),
    "broken off": (BEGIN + HALF, "The answer is \n", "broke off before the end of the answer"),
    "broken off in an event": (BEGIN + HALF + event(content="4")[:-9], "The answer is \n", "no chat completion"),
    "error": (BEGIN + HALF + b"data: " + json.dumps(ERROR).encode() + b"\n\n" + DONE, "The answer is \n",
              "error: the server reports an error\n  EngineCore encountered an issue"),
    "not JSON": (HALF + b"data: oops\n\n" + DONE, "The answer is \n", "that is no chat completion"),
    "a number": (b"data: 7\n\n" + DONE, "", "that is no chat completion"),
    "no stream": (whole(content="42"), "", "answered without a stream"),
    "error without a stream": (json.dumps(ERROR).encode(), "", "  EngineCore encountered an issue"),
    "nothing": (b"", "", "answered without a stream"),
    "endless line": (b"data: " + b"x" * (1 << 21), "", "larger than any answer"),
    "escapes": (event("stop", content="\x1b]0;x\x07ok \ud800") + DONE, "\ufffd]0;x\ufffdok \ufffd\n", ""),
}
CASES = [pytest.param(*case, (), JSON, id=f"whole: {name}") for name, case in WHOLE.items()]
CASES += [pytest.param(*case, ("--stream",), EVENTS, id=f"stream: {name}") for name, case in STREAMS.items()]


Chat = Callable[..., Result]


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Chat:
    """Type `vmtool chat a Why? OPTIONS`, with the instance at this port; in this process, for the time it takes."""
    def typed(port: int, *options: str) -> Result:
        tool = instance(tmp_path, port)
        monkeypatch.setattr(sys, "argv", tool.argv("chat", "a", "Why?", *options))
        with pytest.raises(SystemExit) as end:
            run_command()
        shown = capsys.readouterr()
        return Result(int(end.value.code or 0), shown.out, shown.err)

    return typed


@pytest.mark.parametrize(("body", "out", "err", "options", "kind"), CASES)
def test_only_a_whole_answer_is_a_success(chat: Chat, body: bytes, out: str, err: str, options: tuple[str, ...],
                                          kind: str) -> None:
    with answering([body], kind) as port:
        result = chat(port, *options)
    assert result.out == out
    assert err in result.err if err else not result.err
    assert result.status == (1 if err else 0)


def test_the_document_says_why_the_answer_ended(chat: Chat) -> None:
    with answering([whole("length", content="The answ")], JSON) as port:
        result = chat(port, "--json")
    assert (result.json["answer"], result.json["finish_reason"], result.status) == ("The answ", "length", 1)
    assert "cut off" in result.err


@pytest.mark.parametrize(("body", "said"), [
    (json.dumps({"error": {"message": "max_tokens is too large"}}), "max_tokens is too large"),
    ('{"object": "error", "message": "no such model"}', "no such model"), ('{"error": "Unauthorized"}', "Unauthorized"),
    ('{"detail": [{"loc": ["body"], "msg": "Field required"}]}', "Field required"), ("<h1>oops</h1>", "<h1>oops</h1>"),
], ids=["OpenAI", "older vLLM", "text", "FastAPI", "no JSON"])
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["whole", "stream"])
def test_an_errors_own_words_are_shown(chat: Chat, body: str, said: str, options: tuple[str, ...]) -> None:
    with answering([body.encode()], JSON, status=404) as port:
        result = chat(port, *options)
    assert "answered with status 404" in result.err
    assert said in result.err
    assert (result.out, result.status) == ("", 1)


def test_an_answer_that_is_shorter_than_announced_broke_off(chat: Chat) -> None:
    body = whole(content="42")
    with answering([body], JSON, length=len(body) + 7) as port:
        result = chat(port)
    assert "broke off 7 bytes before the end" in result.err
    assert result.status == 1


@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["whole", "stream"])
@pytest.mark.timing
def test_a_server_that_never_ends_is_left_after_the_deadline(chat: Chat, options: tuple[str, ...]) -> None:
    """It sends something again and again, so that no single wait is long."""
    def drip() -> bytes:
        time.sleep(0.05)
        return b": ping\n\n"

    with answering((drip() for _ in itertools.count()), EVENTS) as port:
        result = chat(port, "--timeout", "1", *options)
    assert "timed out" in result.err
    assert result.status == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("head", [
    CHUNKED + b"ffffffffffffffff\r\n", CHUNKED + b"-5\r\n", CHUNKED + b"zz\r\n", CHUNKED + b"1" * 70_000 + b"\r\n",
    CHUNKED + b"500\r\n", b"hello\r\n\r\n", b"HTTP/1.1 abc X\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"\x1b[2J\r\n" * 100,
], ids=["huge", "negative", "no number", "long", "cut", "a word", "no status", "TLS", "headers", "escapes"])
@pytest.mark.parametrize("options", [(), ("--stream",)], ids=["whole", "stream"])
def test_what_is_no_http_is_an_error_in_a_line(chat: Chat, head: bytes, options: tuple[str, ...]) -> None:
    with answering([whole(content="42")], JSON, head=head) as port:
        result = chat(port, *options)
    assert result.status == 1 and result.err.startswith("error: ") and len(result.err) < 600
    assert "fault of vmtool" not in result.err and "\x1b" not in result.err
    assert result.out == ""


@pytest.mark.parametrize("options", [(), ("--json",), ("--stream",)], ids=["whole", "document", "stream"])
def test_half_of_a_character_is_shown_as_what_is_none(chat: Chat, options: tuple[str, ...]) -> None:
    body = event(content="4\ud8002") + event("stop") + DONE if "--stream" in options else whole(content="4\ud8002")
    with answering([body], EVENTS if "--stream" in options else JSON) as port:
        result = chat(port, *options)
    assert (result.status, "4\ufffd2" in result.out) == (0, True)


@pytest.mark.timing
def test_a_server_that_never_pauses_is_left_after_the_deadline_too(chat: Chat) -> None:
    with answering(itertools.repeat(b": ping\n\n" * 1000), EVENTS) as port:
        result = chat(port, "--timeout", "1", "--stream")
    assert "timed out" in result.err or "larger than any answer" in result.err
    assert result.status == 1


@pytest.mark.parametrize("words", [("chat", "a", b"caf\xe9"), (b"caf\xe9",)], ids=["argument", "command"])
def test_an_argument_that_is_no_text_is_refused(tmp_path: Path, words: tuple[str | bytes, ...]) -> None:
    result = instance(tmp_path, 9)(*(os.fsdecode(word) for word in words), status=2)
    assert "is not UTF-8: caf\\xe9" in result.err
    assert "Traceback" not in result.err
