"""Standard output and error that nothing which is printed can steer or break.

Names, logs and answers are foreign text. A control character in them would steer the terminal, and a character that
the terminal's encoding lacks, or a byte of a name that is not UTF-8, would end the command with a traceback.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from typing import TextIO

# Colours, and the progress line's own return to its beginning, are vmtool's; the groups are what is replaced.
_STEERING = re.compile(r"\x1b\[[0-9;]*m|\r\x1b\[K|\r(?=\n)|([\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069])")
# What an error of writing is about.
OUTPUT = "standard output"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """Foreign text of several lines, without what would steer a terminal or turn the order of what is read."""
    return CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


class SafeStream(io.TextIOWrapper):
    """A text stream that replaces control characters, and writes as an escape what its encoding lacks."""

    def write(self, text: str, /) -> int:
        try:
            super().write(_STEERING.sub(lambda found: "\ufffd" if found[1] else found[0], text))
        except OSError as error:
            error.filename = OUTPUT
            raise
        return len(text)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Meanwhile standard output and error are safe streams; one that is closed stays so."""
    earlier = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_safe, earlier)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, SafeStream):
                with contextlib.suppress(OSError):  # what did not get through was reported when it was written
                    stream.detach()
        sys.stdout, sys.stderr = earlier


def _safe(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    return SafeStream(stream.buffer, encoding=stream.encoding, errors="backslashreplace",
                      line_buffering=True, write_through=stream.write_through)
