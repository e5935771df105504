"""Waiting for the first of many things: a process that ends, a descriptor that can be read."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from vmtool.host import processes


class Waiting:
    """What is waited for.

    Args:
        descriptors: become readable when there is something to be read; negative ones are left out.
    """

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        self.selector = selectors.DefaultSelector()
        self.pids: dict[int, int] = {}
        for descriptor in descriptors:
            if descriptor >= 0:
                with contextlib.suppress(PermissionError):  # a file, which is always readable
                    self.selector.register(descriptor, selectors.EVENT_READ)

    def wait(self, pids: Collection[int], seconds: float) -> None:
        """Until one of these processes ends, something can be read, or time is over."""
        self._follow(pids)
        self.selector.select(seconds)

    def _follow(self, pids: Collection[int]) -> None:
        for pid in self.pids.keys() - set(pids):
            self._leave(pid)
        for pid in set(pids) - self.pids.keys():
            with contextlib.suppress(OSError):  # it has ended already, or this kernel is older than 5.3
                self.pids[pid] = os.pidfd_open(pid)
                self.selector.register(self.pids[pid], selectors.EVENT_READ)

    def _leave(self, pid: int) -> None:
        descriptor = self.pids.pop(pid)
        self.selector.unregister(descriptor)
        os.close(descriptor)


class Job:
    """A program that goes on when this one ends: its output is in a file of its own.

    Args:
        log: replaced.
    """

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            self.process = processes.start(argv, subprocess.DEVNULL, output, output, before=lambda: None)
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def result(self) -> int | None:
        """Its exit status; None as long as it runs."""
        return self.process.poll()

    def last_words(self) -> str:
        """Its error with the first of its details, or the last line."""
        data = self.log.read_bytes()[-4096:] if self.log.exists() else b""
        lines = data.decode(errors="replace").splitlines()
        at = max((number for number, line in enumerate(lines) if line.startswith("error: ")), default=len(lines) - 1)
        details = [line.strip() for line in lines[at + 1:at + 3] if line.startswith("  ")]
        return "; ".join([*lines[at:at + 1], *details]).removeprefix("error: ")[:400]
