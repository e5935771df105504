"""`vmtool recover`: the undo for whatever was killed on its way."""

from __future__ import annotations

import click

from vmtool.cli.apply_plan import InterruptedTransaction, read_interrupted, read_unreadable, recover
from vmtool.errors import VmtoolError
from vmtool.paths import State
from vmtool.plan import shell_lines


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the lines that would be done.")
@click.pass_obj
def recover_command(state: State, dry_run: bool) -> None:
    """Undo what interrupted commands left behind. Logs are kept; `vmtool rm NAME` removes them."""
    interrupted, problems = read_interrupted(state), read_unreadable(state)
    if not interrupted and not problems:
        click.echo("nothing to recover", err=True)
    for subject in interrupted:
        if dry_run:
            show_undo(subject)
            continue
        left = recover_one(state, subject)
        problems += left
        if not left:
            click.echo(f"recovered: {subject.journal.subject}", err=True)
    if problems:
        raise VmtoolError("not everything could be undone", details=problems, hint="vmtool recover")


def show_undo(subject: InterruptedTransaction) -> None:
    """Print the undo as a runbook, newest step first."""
    click.echo(f"# {subject.journal.subject}")
    for entry in reversed(subject.journal.entries):
        click.echo("\n".join([f"# undo: {entry.title}", *shell_lines(entry.undo)]))


def recover_one(state: State, subject: InterruptedTransaction) -> list[str]:
    """Recover one subject; its problems must not keep the others from being recovered."""
    try:
        return recover(state, subject)
    except (VmtoolError, ValueError) as error:
        return [f"{subject.journal.subject}: {error}"]
