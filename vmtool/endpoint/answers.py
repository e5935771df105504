"""What a chat completion says: its text, and the reason when that is not a whole answer.

A server may answer with status 200 and yet without an answer: the content is null while a model reasons, calls a tool
or refuses; the tokens run out; a filter withholds it; a stream carries an error, or ends in the middle.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vmtool.errors import VmtoolError
from vmtool.foreign import parse_text_json
from vmtool.frozen import dataclass

WHOLE = ("stop", "")
# Categories of Unicode of which nobody sees anything: blanks, controls, and marks such as a space of no width.
INVISIBLE = "CZ"
TOKENS = "it reached the limit of tokens (max_model_len, or max_new_tokens of the model's generation_config.json)"
CUT = {"length": TOKENS, "content_filter": "the server's content filter withheld it",
       "tool_calls": "the model calls a tool, and none was offered",
       "function_call": "the model calls a function, and none was offered"}


@dataclass(frozen=True)
class Answer:
    """An answer, or a part of one that comes as a stream.

    Args:
        finish: why it ended, in the server's word; empty when it does not say, or not yet.
        tools: names of the tools that the model calls.
    """

    text: str = ""
    finish: str = ""
    reasoning: str = ""
    refusal: str = ""
    tools: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why it is not a whole answer; empty when it is one."""
        shown = visible(self.text)
        if self.refusal and not shown:
            return "the model refuses"
        if self.finish in WHOLE and shown:
            return ""
        cut = "the answer is cut off" if shown else "there is no answer"
        if self.finish not in WHOLE:
            return f"{cut}: {CUT.get(self.finish, f'it ended with finish_reason {self.finish!r}')}"
        if self.tools:
            return f"{cut}: {CUT['tool_calls']}"
        return f"{cut}: the model reasoned and said nothing" if self.reasoning else f"{cut}: the text is empty"

    @property
    def details(self) -> list[str]:
        """What came in the place of a text."""
        said = [f"refusal: {self.refusal[:300]}"] if self.refusal else []
        said += [f"reasoning: {self.reasoning[:300]}"] if self.reasoning else []
        return said + [f"tool: {name}" for name in self.tools]

    def require(self) -> None:
        """Raise VmtoolError unless it is a whole answer."""
        if self.problem:
            raise VmtoolError(self.problem, details=self.details)


def visible(text: str) -> str:
    """The first character that anybody sees; empty when there is none."""
    return next((letter for letter in text if unicodedata.category(letter)[0] not in INVISIBLE), "")


def read_answer(text: str, part: str) -> Answer:
    """What a chat completion ("message") or one event of its stream ("delta") holds.

    Raises:
        VmtoolError: the document is an error.
        ValueError: it is no chat completion.
    """
    try:
        document = parse_text_json(text)
        if isinstance(document, dict) and (document.get("error") or document.get("object") == "error"):
            raise VmtoolError("the server reports an error", details=[error_text(text)])
        choices = [choice for choice in document["choices"] if not choice.get("index")]
        # The usage of a stream comes in an event of its own, without a choice.
        return join(_choice(choice, part) for choice in choices)
    except (LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"no chat completion: {error}") from error


def join(parts: Iterable[Answer]) -> Answer:
    """One answer of its parts."""
    every = list(parts)
    finish = next((part.finish for part in reversed(every) if part.finish), "")
    return Answer("".join(part.text for part in every), finish, "".join(part.reasoning for part in every),
                  "".join(part.refusal for part in every), tuple(name for part in every for name in part.tools))


def error_text(text: str) -> str:
    """An error's own words, in the shape of OpenAI, vLLM or FastAPI; else the beginning of the text."""
    try:
        document = parse_text_json(text)
        said = document.get("error") or document.get("message") or document.get("detail")
        said = said.get("message") or said if isinstance(said, dict) else said
    except (ValueError, AttributeError, RecursionError):
        said = None
    return (said if isinstance(said, str) else json.dumps(said) if said else text)[:1000]


def events(lines: Iterable[str]) -> Iterator[str]:
    """The data of each server-sent event; comments and other fields are left out."""
    data: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


def _choice(choice: Any, part: str) -> Answer:
    message = choice.get(part) or {}
    content = message.get("content")
    items = content if isinstance(content, list) else [{"type": "text", "text": content}]
    calls: Sequence[Any] = message.get("tool_calls") or ()
    called = [call["function"].get("name") for call in calls if isinstance(call.get("function"), dict)]
    called += [message["function_call"].get("name")] if message.get("function_call") else []
    return Answer(_text(items, "text"), str(choice.get("finish_reason") or ""),
                  str(message.get("reasoning") or message.get("reasoning_content") or "") + _text(items, "thinking"),
                  str(message.get("refusal") or "") + _text(items, "refusal"),
                  tuple(str(name) for name in called if name))


def _text(items: Sequence[Any], kind: str) -> str:
    """The text of a message's parts of one kind."""
    texts = [item.get(kind) for item in items if item.get("type", "text") == kind]
    if not all(isinstance(text, str | None) for text in texts):
        raise TypeError(f"{kind} is no text")
    return "".join(text or "" for text in texts)
