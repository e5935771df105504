"""The front alone, in a loop that measures each turn: its CPU is what others wait for, on a busy machine, too.

    python -m tests.integration.serving.run_turns [as run_front]

On SIGUSR1 it prints, in seconds, the p99 and the longest of the turns since the last time.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import time

from tests.integration.serving.run_front import run
from vmtool.serving import turns

MARK = "turns "


class Loop(turns.Loop):
    """asyncio's, with a clock that stands still while it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[float] = []

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        self.taken.append(time.thread_time() - began)

    def tell(self) -> None:
        print(f"{MARK}{statistics.quantiles(self.taken, n=100)[98]} {max(self.taken)}", flush=True)
        self.taken.clear()


async def measured(*words: str) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    loop.add_signal_handler(signal.SIGUSR1, loop.tell)
    await run(*words)


if __name__ == "__main__":
    turns.run(measured(*sys.argv[1:]), Loop)
