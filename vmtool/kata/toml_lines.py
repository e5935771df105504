"""On which line of a TOML file each key stands. Good enough for files that people write: the parser keeps none."""

from __future__ import annotations

import re
from collections.abc import Iterator

KeyPath = tuple[str, ...]
DEPTH = 16
PART = r"""(?:[\w-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
KEY = rf"{PART}(?:[ \t]*\.[ \t]*{PART})*"
HEADER = re.compile(rf"\s*\[\[?[ \t]*({KEY})[ \t]*\]")
ASSIGNMENT = re.compile(rf"\s*({KEY})[ \t]*=")
PARTS = re.compile(PART)
QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")
# Possessive: between two dots, blanks belong to one place only, so that a line of them takes no time.
DOTTED = re.compile(rf"(?:[\w-]*+[ \t]*+\.[ \t]*+){{{2 * DEPTH + 1}}}")
BLOCKS = ('"""', "'''")


def plain_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that start outside of a string of several lines."""
    inside = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not inside:
            yield number, line
        for quotes in BLOCKS:
            # A string of several lines may hold anything that looks like a key.
            if line.count(quotes) % 2 and inside in ("", quotes):
                inside = "" if inside else quotes
                break


def is_deep(text: str) -> bool:
    """Whether a key has more parts than any configuration's: parsers take minutes for one of thousands."""
    return any(DOTTED.search(QUOTED.sub("", line).partition("#")[0]) for _, line in plain_lines(text)
               if line.count(".") > 2 * DEPTH)


def key_lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Each section and key. One that is repeated in an array of tables has the line of its last occurrence."""
    section: KeyPath = ()
    for number, line in plain_lines(text):
        if header := HEADER.match(line):
            section = _parts(header[1])
            yield from ((section[:length], number) for length in range(1, len(section) + 1))
        elif found := ASSIGNMENT.match(line):
            own = _parts(found[1])
            for length in range(1, len(own) + 1):
                yield (*section, *own[:length]), number


def _parts(key: str) -> KeyPath:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in PARTS.findall(key))
