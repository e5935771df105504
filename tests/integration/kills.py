"""Stopping vmtool at points of its journal. A point is a record, named by its line (see `killed.py`): what is there
after a kill is decided by the point, never by how quick the machine is."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.killed import Names
from tests.integration.machine import Vmtool
from vmtool.plan import action_from_json

KILLED = Path(__file__).with_name("killed.py")
# One in so many, where not every point is tried.
SAMPLE = 15


@dataclass(frozen=True)
class Pace:
    """At which points to kill.

    Args:
        every: all of them; else one in fifteen, others in each run, since each takes seconds. What a test asserts holds
            at each point, so that no sample decides whether it passes.
    """

    every: bool

    def some(self, points: Sequence[str], one_in: int = SAMPLE) -> Sequence[str]:
        """All, or a sample spread over the whole list that is never empty."""
        assert points
        step = 1 if self.every else min(one_in, len(points))
        return points[random.randrange(step)::step]

    def numbers(self) -> Iterable[int]:
        """The same of what has no end that is known: 1, 2, 3..."""
        step = 1 if self.every else SAMPLE
        return itertools.count(random.randint(1, step), step)


def killed(tool: Vmtool, record: str, *words: str | Path, moment: str = "after") -> bool:
    """Run vmtool and kill it after (or before) a record; False when it came to its end without such a record."""
    done = subprocess.run(signalled(tool, "SIGKILL", moment, record, *words), capture_output=True, timeout=900,
                          check=False, stdin=subprocess.DEVNULL)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


def signalled(tool: Vmtool, name: str, moment: str, record: str, *words: str | Path) -> list[str]:
    """The argv of a vmtool that sends itself a signal."""
    return [sys.executable, str(KILLED), name, moment, record, *tool.argv(*words)[1:]]


@contextlib.contextmanager
def held(tool: Vmtool, record: str, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run vmtool and stop it after a record, for the block; `released` lets it go on."""
    argv = signalled(tool, "SIGSTOP", "after", record, *words)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True) as child:
        try:
            found = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert found and found.si_code == os.CLD_STOPPED, f"vmtool ended without the record {record!r}"
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def released(child: subprocess.Popen[str], number: int = 0) -> tuple[int, str]:
    """Let a held vmtool go on, with a signal first; its exit status and what it said."""
    if number:
        child.send_signal(number)
    child.send_signal(signal.SIGCONT)
    error = child.communicate(timeout=300)[1]
    return child.returncode, error


def recorded(tool: Vmtool, *words: str | Path) -> list[str]:
    """Run vmtool to its end; the lines of its journal's records."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "records"
        argv = [sys.executable, str(KILLED), "record", str(file), *tool.argv(*words)[1:]]
        done = subprocess.run(argv, capture_output=True, timeout=900, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr.decode()
        return file.read_text().splitlines(keepends=True)


def planned(tool: Vmtool, spec: Path) -> list[str]:
    """The lines of the records that `vmtool run SPEC` writes, from its plan."""
    plan, names = tool("plan", spec, "--json").json["plan"], Names()
    lines = [names.name("plan", plan["subject"])]
    for step in sorted((step for step in plan["steps"] if not step["skip"]), key=lambda step: bool(step["waits_only"])):
        lines.append(names.name("step", step["title"]))
        for action in step["actions"]:
            shell = action_from_json(action).shell()
            lines += [names.name("begin", shell), names.name("end", shell)]
    return [*lines, names.name("applied")]


def until_health(points: Sequence[str]) -> int:
    """How many points lie before the wait for the server."""
    return next(number for number, line in enumerate(points) if line.startswith("begin") and "/health" in line)


def machine_states(points: Sequence[str]) -> list[str]:
    """The points at which the machine differs, or what the journal has to undo: nothing is done between a `begin` and
    the record before it."""
    return [point for point in points if not point.startswith("begin ")]
