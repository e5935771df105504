"""Where a running machine keeps its disk, sockets and logs: a directory that says whose it is.

A session that was killed leaves its directory; the next one sees that its owner is gone, and removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from tests.lab.cache import ROOT
from vmtool.host.processes import start_time

LOGS = ROOT / "logs"
LOGS_KEPT = 40


def run_directory(stack: contextlib.ExitStack, name: str) -> Path:
    """A new directory, which goes with `stack`; its serial log is kept."""
    running = ROOT / "run"
    running.mkdir(parents=True, exist_ok=True)
    for stale in running.glob("*-*-*"):
        pid, ticks, _ = stale.name.split("-", 2)
        if start_time(int(pid)) != ticks:
            shutil.rmtree(stale, ignore_errors=True)
    prefix = f"{os.getpid()}-{start_time(os.getpid())}-{name}-"
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=running)))
    stack.callback(_keep_log, directory / "serial.log", name)
    return directory


def _keep_log(log: Path, name: str) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    if log.exists():
        shutil.copy(log, LOGS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.log")
    for old in sorted(LOGS.iterdir(), key=lambda path: path.stat().st_mtime)[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)
