"""The locked wheels: fetching them for the image's Python on a host that may have another one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from vmtool.foreign import open_file, read_regular
from vmtool.image.recipe import PLATFORMS, Recipe
from vmtool.isolation import python
from vmtool.plan import Action, Pairs, Run, RunEither

# Bytes of a lock.
MAX_LOCK = 64 << 20
# Debian 12 has glibc 2.36. pip does not expand a manylinux tag to the older ones by itself.
GLIBC = range(36, 4, -1)
HINT = ("give pip a way to these wheels: a proxy (pip config set global.proxy URL), a mirror of that index (pip config "
        "set global.extra-index-url URL), or a directory with them (pip config set global.find-links DIRECTORY)")


def compare_wheels(locks: tuple[Path, ...], directory: Path) -> tuple[int, tuple[Path, ...]]:
    """Read every wheel in `directory`.

    Returns:
        How many locked packages have no wheel with a locked hash there, and the wheels that no lock names.
    """
    existing = {path: file_digest(path) for path in sorted(directory.glob("*.whl"))}
    # A requirement with its hashes is one logical line.
    texts = [read_regular(lock, MAX_LOCK).decode().replace("\\\n", " ") for lock in locks]
    wanted = [set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line)) for text in texts for line in text.splitlines()]
    missing = sum(1 for hashes in wanted if hashes and not hashes & set(existing.values()))
    return missing, tuple(path for path, digest in existing.items() if digest not in set().union(*wanted))


def fetch(recipe: Recipe, lock: Path, directory: Path, environment: Pairs) -> Action:
    """Have the host's pip fetch what `lock` names; pip itself refuses a wheel with another hash.

    The recipe's own index of these wheels is asked only when pip's settings know none that has them.
    """
    command = download(recipe, lock, directory)
    index = dict(recipe.indexes).get(lock.name)
    if not index:
        return Run(command, env=environment, deadline=3600)
    return RunEither(command, (*command, f"--index-url={index}"), env=environment, deadline=3600, hint=HINT)


def download(recipe: Recipe, lock: Path, directory: Path) -> tuple[str, ...]:
    """pip's command line; its own version does not matter."""
    machine = PLATFORMS[recipe.platform].machine
    tags = [*(f"manylinux_2_{minor}_{machine}" for minor in GLIBC), f"manylinux2014_{machine}",
            f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    version = recipe.python.replace(".", "")
    return python(
        "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--only-binary=:all:", f"--python-version={recipe.python}", "--implementation=cp",
        f"--abi=cp{version}", "--abi=abi3", "--abi=none", *(f"--platform={tag}" for tag in tags), f"--dest={directory}",
        f"--requirement={lock}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
