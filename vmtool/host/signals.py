"""SIGINT, SIGTERM and SIGHUP while vmtool is at work."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from vmtool.errors import Interrupted


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`, so that every `finally` and the undo run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    with _handlers(interrupt):
        yield


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Let the same signals pass: half an undo is worse than a late one, and each undo action has a deadline.

    Not SIG_IGN, which children would inherit.
    """
    with _handlers(lambda number, frame: None):
        yield


@contextlib.contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


