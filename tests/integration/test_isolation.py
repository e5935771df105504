"""vmtool run in a stranger's directory runs none of the stranger's code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.machine import VMTOOL

TRAPS = ("vmtool", "pip", "json", "click", "pydantic", "libvirt", "guestfs", "sitecustomize")


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A directory with modules named like those that vmtool's own programs import; each leaves a file `sprung`."""
    directory = tmp_path / "stranger"
    for name in TRAPS:
        package = directory / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    return directory


def test_a_growth_in_a_strangers_directory_runs_only_our_code(trapped: Path, tmp_path: Path) -> None:
    image = trapped / "guest.img"
    image.touch()
    with image.open("r+b") as file:
        file.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image)], check=True, timeout=60)
    done = subprocess.run([VMTOOL, "--state-dir", str(tmp_path / "state"), "rootfs", "resize", "guest.img", "+64M"],
                          cwd=trapped, capture_output=True, text=True, timeout=120, check=False)
    assert not (tmp_path / "sprung").exists()
    assert (done.returncode, image.stat().st_size) == (0, 128 << 20), done.stderr


@pytest.mark.parametrize("words", [("doctor", "--json"), ("gpu", "list"), ("image", "list"), ("libvirt", "--help")])
def test_a_look_from_a_strangers_directory_runs_only_our_code(trapped: Path, tmp_path: Path,
                                                              words: tuple[str, ...]) -> None:
    done = subprocess.run([VMTOOL, "--state-dir", str(tmp_path / "state"), *words], cwd=trapped, capture_output=True,
                          text=True, timeout=120, check=False)
    assert not (tmp_path / "sprung").exists()
    assert done.returncode in (0, 3), done.stderr
