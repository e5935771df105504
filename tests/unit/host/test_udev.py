"""Without libudev nothing is known and nothing fails; a real database is asked in tests/integration/test_udev.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmtool.gpu.pci import DEVICES
from vmtool.host import udev
from vmtool.host.local import LocalHost


@pytest.fixture(autouse=True)
def no_libudev(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(udev, "DATABASE", str(tmp_path))
    monkeypatch.setattr(udev, "CONTROL", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyudev", None)
    udev._context.cache_clear()
    yield
    udev._context.cache_clear()


def test_no_properties_are_known() -> None:
    assert LocalHost().udev(f"{DEVICES}/0000:18:00.0") == {}


def test_a_node_is_looked_for(tmp_path: Path) -> None:
    assert LocalHost().await_node(str(tmp_path), 0.0)
    assert not LocalHost().await_node(str(tmp_path / "vfio0"), 0.0)
