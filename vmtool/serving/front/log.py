"""The front's log: as many lines a second as it may have, and a count of those left out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

BURST_SECONDS = 5.0
LONGEST = 300


class BoundedLog:
    """Passes on so many lines a second, and says of the others how many there were.

    Args:
        write: receives the lines.
        rate: lines a second; for a moment a few seconds' worth of them may come at once.
        about: what the lines are about, for the line that counts.
    """

    def __init__(self, write: Callable[[str], None], rate: float, about: str,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.rate, self.about, self.clock = write, rate, about, clock
        self.most = max(1.0, rate * BURST_SECONDS)
        self.allowed, self.last = self.most, clock()
        self.left_out = 0

    def __call__(self, line: str) -> None:
        now = self.clock()
        self.allowed = min(self.most, self.allowed + (now - self.last) * self.rate)
        self.last = now
        if self.allowed < 1:
            self.left_out += 1
            return
        self.allowed -= 1
        if self.left_out:
            self.write(f"{self.left_out} more {self.about}")
            self.left_out = 0
        self.write(line[:LONGEST])


class Warnings(logging.Handler):
    """What libraries complain of, one short line each: their tracebacks may hold what a peer sent."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else record.levelname.lower()
        self.log(f"{record.name}: {kind} in {record.module}.{record.funcName}")
