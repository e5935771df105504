"""Which versions of programs are installed."""

from __future__ import annotations

import re

from vmtool.machine import Reader


def versions(reader: Reader, *programs: str) -> tuple[tuple[str, str], ...]:
    """What asks those that are there for their versions."""
    return tuple((program, "--version") for program in map(reader.which, programs) if program)


def read_version(reader: Reader, program: str | None, pattern: str) -> str | None:
    """What the pattern's group finds in what a program says of itself; None when it is not there, or says it not."""
    output = reader.run((program, "--version")) if program else None
    found = re.search(pattern, output.out) if output else None
    return found[1] if found else None
