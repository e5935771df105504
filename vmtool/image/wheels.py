"""The locked wheels: fetching them for the image's Python on a host that may have another one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from vmtool.image.recipe import PLATFORMS, Recipe
from vmtool.isolation import python
from vmtool.plan import Pairs, Run

# Debian 12 has glibc 2.36. pip does not expand a manylinux tag to the older ones by itself.
GLIBC = range(36, 4, -1)
HINT = ("tell pip where the PyTorch project's CPU wheels are: pip config set global.extra-index-url URL, or "
        "global.find-links DIRECTORY")


def wheels_missing(locks: tuple[Path, ...], directory: Path) -> int:
    """How many locked packages have no wheel with a locked hash in `directory`; reads every wheel there."""
    existing = {file_digest(path) for path in directory.glob("*.whl")} if directory.is_dir() else set()
    # A requirement with its hashes is one logical line.
    texts = [lock.read_text().replace("\\\n", " ") for lock in locks]
    wanted = [set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line)) for text in texts for line in text.splitlines()]
    return sum(1 for hashes in wanted if hashes and not hashes & existing)


def fetch(recipe: Recipe, lock: Path, directory: Path, environment: Pairs) -> Run:
    """Have vmtool's own pip fetch what `lock` names; pip itself refuses a wheel with another hash."""
    machine = PLATFORMS[recipe.platform].machine
    tags = [*(f"manylinux_2_{minor}_{machine}" for minor in GLIBC), f"manylinux2014_{machine}",
            f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    version = recipe.python.replace(".", "")
    return Run(python(
        "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--only-binary=:all:", f"--python-version={recipe.python}", "--implementation=cp",
        f"--abi=cp{version}", "--abi=abi3", "--abi=none", *(f"--platform={tag}" for tag in tags), f"--dest={directory}",
        f"--requirement={lock}"), env=environment, deadline=3600, hint=HINT if lock.name == "torch.lock" else "")


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
