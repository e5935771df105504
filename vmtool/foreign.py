"""What others wrote: opening it waits for nobody, and parsing it gives a value or a ValueError.

Where a file is expected there can be a pipe, a device or a socket; opening those waits for somebody, or does something.
So this is how foreign files are opened: without waiting, and regular files only; and what is read of them is bounded.

Python's parsers recurse: a text of brackets alone ends them with RecursionError, which is no ValueError. A key of
thousands of dotted parts makes tomllib take minutes.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from vmtool.errors import Refused, shell_word

_DOTS = 64
_HALF = re.compile("[\ud800-\udfff]")


def open_file(path: str | Path) -> io.BufferedReader:
    """Open a file to read it, links followed.

    Raises:
        Refused: it is not a regular file.
        OSError: it is absent, cannot be read, or somebody keeps it from being opened by a lease.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_regular(path)
    return os.fdopen(descriptor, "rb")


def not_regular(path: str | Path) -> Refused:
    """What a file that is none is refused with."""
    return Refused(f"{path}: not a regular file", hint=f"look who put it there: ls -l {shell_word(path)}")


def read_regular(path: str | Path, most: int) -> bytes:
    """At most so many bytes of a file, however long it is and however it grows.

    Raises:
        Refused, OSError: as `open_file`.
    """
    with open_file(path) as file:
        return file.read(most)


class BoundedFile(io.RawIOBase):
    """A file for a parser that reads as much as a header says: `at_once` bytes at a time at most, `in_all` in all."""

    def __init__(self, file: BinaryIO, *, at_once: int, in_all: int) -> None:
        self.file, self.at_once, self.left = file, at_once, in_all

    def read(self, size: int = -1, /) -> bytes:
        """As of any file.

        Raises:
            ValueError: that is more than any honest file needs.
        """
        if size < 0 or size > self.at_once or size > self.left:
            raise ValueError("a header that is too large")
        self.left -= size
        return self.file.read(size)

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        return self.file.seek(place, whence)

    def tell(self) -> int:
        return self.file.tell()


def parse_json(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON text.

    Args:
        pairs: makes the objects.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_text_json(text: str | bytes) -> Any:
    """As `parse_json`, of what is printed or kept: half of a character (a surrogate), which JSON can name and UTF-8
    cannot hold, becomes the character for what is none. Names of files may have one, and must stay as they are.

    Raises:
        ValueError: as `parse_json`.
    """
    value = parse_json(text)
    if r"\ud" in (text if isinstance(text, str) else text.decode(errors="replace")).lower():
        value = parse_json(_HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    return value


def parse_toml(text: str | None) -> dict[str, Any]:
    """The tables of a TOML file; none when it is absent, or is not TOML."""
    if not text or any(
            line.partition("=")[0].count(".") > _DOTS for line in text.splitlines() if "=" in line):
        return {}
    import tomllib  # most commands read none

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}
