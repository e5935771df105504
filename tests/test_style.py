"""The linters are tests."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [str(path) for path in (*ROOT.glob("scripts/*"), ROOT / ".ci" / "run")
           if path.is_file() and b"bash" in path.read_bytes()[:40]]


# Outside the checkout, so that a fresh clone in the same place looks again only at what is new: mypy goes by contents.
# A place for each, since two that write one at a time lead mypy astray.
CACHE = (Path(os.environ.get("VMTOOL_CACHE") or Path.home() / ".cache" / "vmtool") / "mypy"
         / hashlib.sha256(str(ROOT).encode()).hexdigest()[:12])


@pytest.mark.parametrize("argv", [
    [sys.executable, "-m", "ruff", "check", "."],
    [sys.executable, "-m", "mypy", "--cache-dir", str(CACHE)],
    ["shellcheck", *SCRIPTS],
], ids=["ruff", "mypy", "shellcheck"])
def test_linter_is_content(argv: list[str]) -> None:
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_file_is_overlooked_for_the_name_of_its_folder(pytestconfig: pytest.Config) -> None:
    """A folder called build is ignored by pytest of itself, and by ruff when git ignores it."""
    found = subprocess.run([sys.executable, "-m", "ruff", "check", "--show-files", "vmtool", "tests"], cwd=ROOT,
                           capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    sources = [path for room in ("vmtool", "tests") for path in (ROOT / room).rglob("*.py")]
    assert {str(path) for path in sources} == set(found)
    unseen = pytestconfig.getini("norecursedirs")
    assert not [path for path in sources for part in path.relative_to(ROOT).parts
                if any(fnmatch(part, pattern) for pattern in unseen)]


# Words that the product's code and pages no longer use, since others are plainer: reported, again, undo, compare.
RETIRED = re.compile(r"\b(told|anew|way back|by now|h[eo]ld it against|held against|leavings|at one stroke)\b", re.I)
# Where one still is; the list only shrinks.
STILL = {("images/vllm-cpu/requirements.in", "anew"), ("vmtool/attest/server/answer.py", "told")}


def test_words_that_were_retired_stay_away() -> None:
    pages = [path for room in ("vmtool", "templates", "images", "docs") for path in (ROOT / room).rglob("*")
             if path.is_file() and "__pycache__" not in path.parts]
    texts = {str(path.relative_to(ROOT)): path.read_text(errors="replace") for path in (*pages, ROOT / "README.md")}
    found = {(name, each[0].lower()) for name, text in texts.items()
             for each in RETIRED.finditer(re.sub(r"\n[#\s]*", " ", text))}
    assert not found - STILL, "These words have a plainer one."
    assert not STILL - found, "These are gone: take them off the list."
