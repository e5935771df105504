"""Stopping vmtool at its actions: SIGKILL right after a journal record."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.integration.machine import Vmtool

KILLED = Path(__file__).with_name("killed.py")
# Two records are written for each action, before it and after it: a kill after one action is a kill before the next.
PER_ACTION = 2


@dataclass(frozen=True)
class Pace:
    """At which journal records to kill.

    Args:
        every: all of them; else one in six, others in each run, since each takes seconds.
    """

    every: bool

    @property
    def first(self) -> int:
        return 1 if self.every else random.randint(1, self.step)

    @property
    def step(self) -> int:
        return 1 if self.every else 6


def killed(tool: Vmtool, records: int, *words: str | Path) -> bool:
    """Run vmtool and kill it after so many journal records; False when it came to its end before."""
    argv = [sys.executable, str(KILLED), str(records), *tool.argv(*words)[1:]]
    done = subprocess.run(argv, capture_output=True, timeout=900, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0
