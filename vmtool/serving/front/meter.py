"""Counts the tokens of an answer as it passes: vLLM's own usage where it says it, else an estimate."""

from __future__ import annotations

import re

# Not within a text: there the quotes are escaped. OpenAI's words, and those of Anthropic and of OpenAI's Responses.
PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,9})')
COMPLETION = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,9})')
# The longest that a usage, which two pieces may share, is expected to be.
TAIL = 200
BYTES_A_TOKEN = 4
# Within a text a line break is escaped.
EVENT = b"\ndata:"


class Meter:
    """The tokens of one request and its answer.

    Args:
        body: bytes of the request, of which its tokens are estimated as long as vLLM has not said them.
        events: whether the answer comes as server-sent events, each of which counts as a token until then.
    """

    def __init__(self, body: int, *, events: bool) -> None:
        self.estimate, self.events, self.count = body // BYTES_A_TOKEN, events, 0
        self.prompt: int | None = None
        self.completion: int | None = None
        self.tail = b"\n"

    def see(self, chunk: bytes) -> None:
        """A piece of the answer."""
        if self.events:
            self.count += (self.tail[1 - len(EVENT):] + chunk).count(EVENT)
        text = self.tail + chunk
        if b"_tokens" in text:
            for found in PROMPT.finditer(text):
                self.prompt = int(found[1])
            for found in COMPLETION.finditer(text):
                self.completion = int(found[1])
        self.tail = text[-TAIL:]

    def counted(self, *, whole: bool) -> tuple[int, int]:
        """Tokens of the request and of the answer, as far as they are known; of one that is not whole, the most."""
        prompt = self.estimate if self.prompt is None else self.prompt
        known = self.completion or 0
        return prompt, known if whole and self.completion is not None else max(known, self.count)
