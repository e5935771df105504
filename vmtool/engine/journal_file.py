"""The file of a journal: its lines read and written, and what is said when they are not as they were written."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtool.engine.journal_lines import Lines, parse_lines
from vmtool.errors import Damaged, Refused
from vmtool.host import files
from vmtool.host.safe_open import open_regular

NAME = "journal.jsonl"
LARGEST = 64 << 20
# What lies in a subject's directory before its journal does.
BEFORE = ("log", "plan.json", "facts.json")


class JournalFile:
    """`directory`/journal.jsonl."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self._lines: Lines | None = None

    def append(self, values: dict[str, Any]) -> None:
        """Add a record durably.

        Raises:
            Damaged: what is there is not as it was written.
            OSError: it cannot be written, such as for want of room.
        """
        descriptor = self._open(os.O_RDWR | os.O_APPEND)
        try:
            lines = self._latest(os.fstat(descriptor).st_size)
            if lines.problems:
                raise self.damaged(lines)
            # What was cut short announces nothing.
            os.ftruncate(descriptor, lines.whole)
            data = (("" if lines.ended else "\n") + lines.next_line(values)).encode()
            if os.write(descriptor, data) != len(data):
                # What follows would be done without a recorded undo.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(descriptor)
            lines.whole, lines.ended = lines.whole + len(data), True
            self._lines = lines
        finally:
            os.close(descriptor)

    def _latest(self, size: int) -> Lines:
        """The lines of the file; they are not read again while only this journal writes."""
        lines, self._lines = self._lines, None
        return lines if lines and lines.whole == size else self.lines()

    def _open(self, flags: int) -> int:
        try:
            return open_regular(self.path, flags)
        except Refused as error:
            raise self.damage("is not a regular file") from error
        except FileNotFoundError as error:
            raise self.damage("is missing") from error

    def lines(self) -> Lines:
        """What the file holds; none when there is none.

        Raises:
            Damaged: it is no regular file, or is larger than any journal.
        """
        if not os.path.lexists(self.path):
            return parse_lines(b"", self.subject)
        with os.fdopen(self._open(os.O_RDONLY), "rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise self.damage(f"is larger than {LARGEST >> 20} MiB")
        return parse_lines(data, self.subject)

    def whole_lines(self) -> Lines:
        """The lines, all of which are as they were written.

        Raises:
            Damaged: they are not, or what says what was done is gone.
        """
        if os.path.lexists(self.path.parent) and not self.path.parent.is_dir():
            raise self.damage("cannot be: what should be its directory is none")
        lines = self.lines()
        if lines.problems:
            raise self.damaged(lines)
        if lines.records and lines.records[0]["event"] != "plan":
            raise self.damage("does not begin with a plan")
        if not lines.records and os.path.lexists(self.path):
            raise self.damage("is empty")
        if not lines.records and (left := self.done_before()):
            raise self.damage(f"is missing, but not {', '.join(left[:3])} beside it")
        return lines

    def done_before(self) -> list[str]:
        """What lies beside the journal that a transaction has put there; a runbook typed by hand writes no plan."""
        if not os.path.lexists(self.path.parent / "plan.json"):
            return []
        try:
            return [name for name in files.names(str(self.path.parent)) if name not in (*BEFORE, NAME)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def damaged(self, lines: Lines) -> Damaged:
        """What is wrong with these lines."""
        (first, why), *more = lines.problems
        return self.damage(f"is damaged: {why}", first, [f"{self.path}:{line}: {text}" for line, text in more[:3]])

    def damage(self, what: str, line: int = 0, more: Sequence[str] = ()) -> Damaged:
        """The error for a journal that cannot be followed, with the way out."""
        place = f"{self.path}:{line}" if line else str(self.path)
        return Damaged(f"{place}: the journal {what}", details=more, hint=f"vmtool recover --adopt {self.word}")

    @property
    def subject(self) -> str:
        """What the journal is of, wherever the state directory lies, such as "instances/chat"."""
        return "/".join(self.path.parent.parts[-2:])

    @property
    def word(self) -> str:
        """How a person names it to `vmtool recover --adopt`."""
        return self.subject.removeprefix("instances/")

