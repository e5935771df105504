"""The linters are tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [str(path) for path in (*ROOT.glob("scripts/*"), ROOT / ".ci" / "run")
           if path.is_file() and b"bash" in path.read_bytes()[:40]]


@pytest.mark.parametrize("argv", [
    [sys.executable, "-m", "ruff", "check", "."],
    [sys.executable, "-m", "mypy"],
    ["shellcheck", *SCRIPTS],
], ids=["ruff", "mypy", "shellcheck"])
def test_linter_is_content(argv: list[str]) -> None:
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
