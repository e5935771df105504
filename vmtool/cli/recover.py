"""What `vmtool recover` prints of an undo."""

from __future__ import annotations

import click

from vmtool.cli.apply_plan import InterruptedTransaction
from vmtool.plan import shell_lines


def show_undo(subject: InterruptedTransaction) -> None:
    """Print the undo as a runbook, newest step first."""
    click.echo(f"# {subject.journal.subject}")
    for entry in reversed(subject.journal.next_undo):
        click.echo("\n".join([f"# undo: {entry.title}", *shell_lines(entry.undo)]))
