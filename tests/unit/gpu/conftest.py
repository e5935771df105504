"""Recorded hosts whose PCI bus reacts, under the real planners and the real `apply`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from tests.fakes.sysfs import FakeKernel
from vmtool.paths import State

Boot = Callable[..., FakeKernel]


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    """Start a recorded host of tests/data/hosts/gpu-NAME.json; changes as for `Recorded.load`."""
    def start(name: str, **changes: dict[str, object]) -> FakeKernel:
        return FakeKernel(Recorded.load(f"gpu-{name}", **changes), tmp_path)

    return start
