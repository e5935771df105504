"""The room with effects works in a directory of the test's own; what is mounted is not asked."""

from __future__ import annotations

import pytest

from vmtool.host import files


@pytest.fixture(autouse=True)
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is mounted, unless a test appends a mount point."""
    points: list[str] = []
    monkeypatch.setattr(files, "mount_points", lambda: points)
    return points
