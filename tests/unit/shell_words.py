"""The words of a shell line, its quotes taken off: what a program gets."""

from __future__ import annotations

import re
from collections.abc import Iterator

HERE = re.compile(r"<<'(\w+)'\n.*?^\1$", re.DOTALL | re.MULTILINE)
# What ends a word outside of quotes.
ENDS = " \t\n;|&<>()"


def words(line: str) -> Iterator[str]:
    """Those of the line, of its substitutions and of what it has a further shell do; documents within it have none.

    Raises:
        ValueError: a quote or a bracket is not closed.
    """
    found, end = _words(HERE.sub("<< HERE", line), 0, "")
    if end < len(line) and HERE.sub("", line)[end:].strip():
        raise ValueError(f"a bracket too many: {line[:end]}")
    for before, word in zip(["", *found], found, strict=False):
        yield from words(word) if before == "-c" else (word,)


def _words(text: str, at: int, close: str) -> tuple[list[str], int]:
    """The words up to the bracket that closes, and where that stands."""
    found, word, within = list[str](), "", False
    while at < len(text) and (within or text[at] != close):
        char = text[at]
        if char == "'" and not within:
            end = text.index("'", at + 1)
            word, at = word + text[at + 1:end], end
        elif char == "\\":
            word, at = word + text[at + 1], at + 1
        elif char == '"':
            within = not within
        elif text.startswith("$(", at) or (char == "(" and not within):
            inner, at = _words(text, text.index("(", at) + 1, ")")
            found += inner
        elif char in ENDS and not within:
            found, word = [*found, word], ""
        else:
            word += char
        at += 1
    if within or (close and at == len(text)):
        raise ValueError(f"not closed: {text}")
    return [each for each in (*found, word) if each], at
