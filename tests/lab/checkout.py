"""The checkout as it goes into a guest at each start: no disk is made anew for a changed line.

The modules are compiled here, since an emulated machine takes seconds for it; the guest's interpreter is of the same
minor version, and checks each against its source.
"""

from __future__ import annotations

import functools
import py_compile
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.lab.images import CHECKOUT as INSIDE

ROOT = Path(__file__).parents[2]


@functools.cache
def packed() -> bytes:
    """The checkout as a tar, as it was when this process first asked."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            pack(tar)
        file.seek(0)
        return file.read()


def pack(tar: tarfile.TarFile) -> None:
    """Add the checkout, with its modules compiled for the guest's interpreter, to a tar."""
    root = ROOT
    for name in ("vmtool", "templates", "images"):
        tar.add(root / name, name, filter=lambda info: None if info.name.endswith("__pycache__") else info)
    with tempfile.TemporaryDirectory() as scratch:
        for source in (root / "vmtool").rglob("*.py"):
            inside = source.relative_to(root)
            cached = inside.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            compiled = py_compile.compile(str(source), cfile=str(Path(scratch) / cached), dfile=f"{INSIDE}/{inside}",
                                          invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
            tar.add(str(compiled), str(cached))
