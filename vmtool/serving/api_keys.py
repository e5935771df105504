"""The API keys, read before anything is started; small, since it is imported before vLLM's start."""

from __future__ import annotations

from pathlib import Path

MIN_KEY = 16


def read_keys(path: Path) -> tuple[bytes, ...]:
    """The API keys of a file: one per line, blank lines and lines with # in front left out.

    Raises:
        ValueError: there is none, or one is shorter than `MIN_KEY` characters or not plain ASCII.
        OSError: the file cannot be read.
    """
    lines = [line.strip() for line in path.read_bytes().splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith(b"#"))
    if not keys:
        raise ValueError(f"{path}: no API key in it")
    if any(len(key) < MIN_KEY or not key.isascii() or b" " in key for key in keys):
        raise ValueError(f"{path}: a key must be one ASCII word of at least {MIN_KEY} characters")
    return keys
