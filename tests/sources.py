"""Python files as syntax trees, for the tests that search them: each is parsed once in a process."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """The file's tree; nobody changes it."""
    return _parsed(path.read_bytes())


@functools.cache
def _parsed(text: bytes) -> ast.Module:
    return ast.parse(text)
