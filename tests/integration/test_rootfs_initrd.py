"""An image that is an initrd: verified and booted like the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.machine import Vmtool
from tests.integration.rootfs_images import recipe


@pytest.mark.slow
def test_an_initrd_is_verified_and_booted(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root: mmdebstrap runs in a chroot")
    tool, image = Vmtool(tmp_path / "state"), tmp_path / "i.img"
    path = recipe(tmp_path / "r", name="rootfs-initrd", layout="initrd", verity=None)
    tool("rootfs", "build", path, "-o", image, timeout=900)
    told = tool("rootfs", "verify", image).out
    assert "\u2713 archive: it unpacks to its end" in told
    assert "\u2717" not in told
    before = image.read_bytes()
    told = tool("rootfs", "boot", image, timeout=600).out
    assert "\u2713 multi-user.target: active" in told
    assert image.read_bytes() == before
    image.write_bytes(before[:-100])
    told = tool("rootfs", "verify", image, status=4).out
    assert "\u2717 archive: " in told
