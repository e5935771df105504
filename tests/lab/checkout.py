"""The checkout as it goes into a guest at each start: no disk is made again for a changed line.

The modules are compiled here, since an emulated machine takes seconds for it; the guest's interpreter is of the same
minor version, and checks each against its source.
"""

from __future__ import annotations

import functools
import py_compile
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab.images import CHECKOUT as INSIDE

ROOT = Path(__file__).parents[2]
FOLDERS = ("vmtool", "templates", "images")


@functools.cache
def packed() -> bytes:
    """The checkout as a tar, as it was when this process first asked."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            pack(tar)
        file.seek(0)
        return file.read()


@functools.cache
def packed_commit(commit: str) -> bytes:
    """The tree of an earlier commit, packed likewise."""
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as file:
        names = [name for name in FOLDERS if subprocess.run(
            ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}:{name}"], check=False, timeout=60).returncode == 0]
        archive = ["git", "-C", str(ROOT), "archive", commit, *names]
        tree = subprocess.run(archive, check=True, capture_output=True, timeout=60).stdout
        subprocess.run(["tar", "-x", "-C", directory], input=tree, check=True, timeout=60)
        with tarfile.open(fileobj=file, mode="w") as tar:
            pack(tar, Path(directory), names)
        file.seek(0)
        return file.read()


def pack(tar: tarfile.TarFile, root: Path = ROOT, names: Sequence[str] = FOLDERS) -> None:
    """Add a checkout, with its modules compiled for the guest's interpreter, to a tar."""
    for name in names:
        tar.add(root / name, name, filter=lambda info: None if info.name.endswith("__pycache__") else info)
    with tempfile.TemporaryDirectory() as scratch:
        for source in (root / "vmtool").rglob("*.py"):
            inside = source.relative_to(root)
            cached = inside.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            compiled = py_compile.compile(str(source), cfile=str(Path(scratch) / cached), dfile=f"{INSIDE}/{inside}",
                                          invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
            tar.add(str(compiled), str(cached))
