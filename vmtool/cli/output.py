"""What every command prints alike: JSON documents, tables, progress."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from vmtool.cli.streams import CONTROL

SCHEMA = "vmtool/v1"


def print_json(**values: Any) -> None:
    """One document on stdout."""
    text = json.dumps({"schema": SCHEMA, **values}, indent=2, ensure_ascii=False)
    # json leaves some of what a stream would replace; as an escape it arrives unchanged.
    click.echo(CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned columns; the last one is not padded."""
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(text: str) -> str:
    """What a foreign file or program says, without what would steer a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


class Progress:
    """A `vmtool.engine.apply.Monitor`: one ephemeral line on a terminal, plain lines elsewhere; all on stderr."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.title = ""
        self.started = 0.0

    def step(self, title: str) -> None:
        self.title, self.started = title, time.monotonic()
        self._ephemeral(f"… {title}")

    def skipped(self, title: str, why: str) -> None:
        _say(f"- {title}: {why}\n")

    def note(self, text: str) -> None:
        self._ephemeral(f"… {self.title}: {text}")

    def done(self, seconds: float) -> None:
        self._clear()
        _say(f"✓ {self.title} ({seconds:.1f} s)\n")

    def close(self) -> None:
        """Leave the terminal's line clean, for the error or summary that follows."""
        self._clear()

    def _ephemeral(self, text: str) -> None:
        if self.live:
            _say(f"\r\033[K{text[:100]}")

    def _clear(self) -> None:
        if self.live:
            _say("\r\033[K")


def _say(text: str) -> None:
    """Write to stderr; a terminal that has gone away must not stop what is being done, or undone."""
    with contextlib.suppress(OSError):
        click.echo(text, nl=False, err=True)
