"""What watch does to this host."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from vmtool.host import locks
from vmtool.paths import State
from vmtool.watch.model import Act
from vmtool.watch.world import LocalWorld


@pytest.mark.parametrize(("holder", "own", "ended"), [
    ("vmtool watch: start a", 0, True), ("vmtool watch: start a", None, True),
    ("vmtool watch: start a", 1, False),
    ("vmtool stop a", 1, False), ("vmtool stop a", None, False), (None, 0, False)])
def test_only_a_start_of_watchs_own_is_ended(tmp_path: Path, holder: str | None, own: int | None, ended: bool) -> None:
    """Its own start may have ended since the look: then the lock is the stop's that waited for it. One whose line names
    another process than that start was left by the one before.

    Args:
        holder: who holds the lock, as this process. own: the process that this watch has started, by how
            much it is another.
    """
    state, host = State(tmp_path), FakeHost()
    world = LocalWorld.__new__(LocalWorld)
    world.state, world.host = state, host
    jobs: Any = {} if own is None else {"a": (Act("start"), SimpleNamespace(pid=os.getpid() + own))}
    world.jobs = jobs
    state.instance("a").mkdir(parents=True)
    lock = locks.Lock(state.lock(state.instance("a")), holder or "")
    if holder:
        lock.take()
    try:
        world.do("a", Act("abort"))
    finally:
        lock.let_go()
    assert host.signals == [(os.getpid(), signal.SIGTERM)] * ended
