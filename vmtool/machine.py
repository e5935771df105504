"""The one seam between facts and the machine, so that a recorded host can stand in for a real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Output:
    """What a finished program left: exit status (negative: signal), standard output and error as text."""

    status: int
    out: str
    err: str


class Reader(Protocol):
    """Read-only access to a machine. Nothing raises for what is absent: absence is a fact."""

    def text(self, path: str) -> str | None:
        """The file's text (at most 4 MiB), or None when it is absent or unreadable."""

    def names(self, path: str) -> tuple[str, ...]:
        """The sorted names in a directory; empty when it is absent."""

    def link(self, path: str) -> str | None:
        """Where a symbolic link points, as written; None when it is none."""

    def exists(self, path: str) -> bool:
        """Whether the path exists."""

    def which(self, program: str) -> str | None:
        """The absolute path of a program, sbin directories included."""

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        """A program's output; None when it is absent or did not end within `deadline` seconds."""


class DeviceReader(Reader, Protocol):
    """A reader that also dares to read what a broken driver can block."""

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        """As `text`, of files whose reading may never return, such as those that take a device's lock.

        A file that did not answer within `deadline` seconds is missing in the result.
        """
