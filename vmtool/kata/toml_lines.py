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
# What opens a string or a comment.
OPENS = re.compile(rf"{'|'.join(BLOCKS)}|{QUOTED.pattern}|#")


def plain_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that start outside of a string of several lines."""
    inside = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not inside:
            yield number, line
        if any(quotes in line for quotes in BLOCKS):
            inside = _open_at_the_end(line, inside)


def _open_at_the_end(line: str, inside: str) -> str:
    """The quotes of a string of several lines, which may hold anything that looks like a key; a comment opens none."""
    at = 0
    while True:
        if inside:
            end = line.find(inside, at)
            if end < 0:
                return inside
            at, inside = end + len(inside), ""
        found = OPENS.search(line, at)
        if not found or found[0] == "#":
            return ""
        at, inside = found.end(), found[0] if found[0] in BLOCKS else ""


def is_deep(text: str) -> bool:
    """Whether a key has more parts than any configuration's: parsers take minutes for one of thousands."""
    return any(DOTTED.search(QUOTED.sub("", line).partition("#")[0]) for _, line in plain_lines(text)
               if line.count(".") > 2 * DEPTH)


def key_lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Each section and key. One that is repeated in an array of tables has the line of its last occurrence."""
    section: KeyPath = ()
    for number, line in plain_lines(text):
        if not line:
            continue
        if header := HEADER.match(line):
            section = _parts(header[1])
            yield from ((section[:length], number) for length in range(1, len(section) + 1))
        elif found := ASSIGNMENT.match(line):
            own = _parts(found[1])
            for length in range(1, len(own) + 1):
                yield (*section, *own[:length]), number


def _parts(key: str) -> KeyPath:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in PARTS.findall(key))
