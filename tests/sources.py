"""Python files as syntax trees, for the tests that search them: each is read once in a process."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The file's tree; nobody changes it."""
    return ast.parse(path.read_bytes())
