"""The host side's log of a subject: every command line with its output. Nothing depends on it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from vmtool.errors import Refused
from vmtool.host import bounded_log, files
from vmtool.host.safe_open import open_regular


class Log(io.TextIOBase):
    """A log whose disk may be full: what does not fit is missing in it, and what it is about goes on."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, text: str, /) -> int:
        """As of any file, at once."""
        with contextlib.suppress(OSError):
            os.write(self.descriptor, text.encode(errors="backslashreplace"))
        return len(text)


@contextlib.contextmanager
def open_log(directory: Path) -> Iterator[IO[str]]:
    """The log of the subject in `directory`; where none can be written, a log that is lost."""
    try:
        descriptor = _open(directory / "log" / "host.log")
    except (OSError, Refused):
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield cast("IO[str]", Log(descriptor))
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    files.make_private(path.parent)
    bounded_log.bound(path)
    try:
        descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor
