"""SIGINT, SIGTERM and SIGHUP while vmtool is at work."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from vmtool.errors import Interrupted

# Seconds, in which a program is ended and what was begun is left.
AGAIN = 10.0


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`, so that every `finally` and the undo run.

    Python drops what a handler raises within a finalizer or beside a fork (sys.unraisablehook), and who catches
    everything may pass over it. So whoever is still here after `AGAIN` seconds is interrupted again, and again.
    """
    again: threading.Timer | None = None

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal again
        if again:
            again.cancel()
        again = threading.Timer(AGAIN, signal.pthread_kill, (threading.main_thread().ident, number))
        again.daemon = True
        again.start()
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    try:
        with _handlers(interrupt):
            yield
    finally:
        if again:
            again.cancel()


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


