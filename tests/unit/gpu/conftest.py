"""Recorded hosts whose PCI bus reacts, under the real planners and the real `apply`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from tests.fakes.sysfs import FakeKernel
from vmtool.gpu import sysfs_writes, vfio_in_use
from vmtool.gpu.pci import DEVICES
from vmtool.host import processes
from vmtool.paths import State

Boot = Callable[..., FakeKernel]
BOOT_ID = "5f0f6a0e-9d41-4a53-8d0c-6f7d1f1f0a11"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    """Start a recorded host of tests/data/hosts/gpu-NAME.json; changes as for `Recorded.load`."""
    def start(name: str, **changes: dict[str, object]) -> FakeKernel:
        kernel = FakeKernel(Recorded.load(f"gpu-{name}", **changes), tmp_path)
        install(kernel, monkeypatch)
        return kernel

    return start


def install(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the effects act on this kernel."""
    monkeypatch.setattr(sysfs_writes, "start", kernel.start)
    monkeypatch.setattr(sysfs_writes, "boot_id", lambda: BOOT_ID)
    monkeypatch.setattr(sysfs_writes, "read_driver", lambda directory: _driver(kernel, directory))
    monkeypatch.setattr(processes, "run", kernel.program)
    monkeypatch.setattr(vfio_in_use, "held", lambda directories: [])


def _driver(kernel: FakeKernel, directory: str) -> str | None:
    bdf = directory.removeprefix(f"{DEVICES}/")
    return kernel.driver(bdf) if bdf in kernel.names(DEVICES) else None
