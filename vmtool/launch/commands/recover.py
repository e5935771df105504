"""`vmtool recover`: the undo for whatever was killed on its way, and for what a damaged journal no longer tells."""

from __future__ import annotations

import sys

import click

from vmtool.cli.apply_plan import (
    InterruptedTransaction,
    adopt,
    adopted_steps,
    read_damaged,
    read_interrupted,
    recover,
    replay,
)
from vmtool.cli.recover import show_undo
from vmtool.errors import Refused, VmtoolError
from vmtool.host.local import LocalMachine
from vmtool.launch.commands.damage import Subject, read_subject, require_gone
from vmtool.paths import State
from vmtool.plan import shell_lines


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the lines that would be done.")
@click.option("--adopt", "adopted", metavar="NAME", help="Take up what is on the machine of an instance whose journal "
              "is damaged or gone, and remove it; ROOM/NAME for what is no instance.")
@click.option("--only", metavar="NAME", hidden=True, help="As vmtool watch does it, of one instance.")
@click.option("-y", "--yes", is_flag=True, help="Also when it runs, without asking.")
@click.pass_obj
def recover_command(state: State, dry_run: bool, adopted: str | None, only: str | None, yes: bool) -> None:
    """Undo what interrupted commands left behind. Logs are kept; `vmtool rm NAME` removes them."""
    if adopted is not None:
        adopt_subject(state, adopted, dry_run=dry_run, yes=yes)
        return
    interrupted, problems = read_interrupted(state), list[VmtoolError](read_damaged(state))
    if only is not None:
        interrupted, problems = [one for one in interrupted if one.directory == state.instance(only)], []
    if not interrupted and not problems:
        click.echo("nothing to recover", err=True)
    for subject in interrupted:
        if dry_run:
            show_undo(subject)
            continue
        try:
            recover_one(state, subject)
        except VmtoolError as error:  # it must not keep the others from being recovered
            problems.append(error)
    if problems:
        details = [line for error in problems for line in (f"{error.message} ({error.hint})", *error.details)]
        raise VmtoolError("not everything could be undone", details=details, hint=problems[0].hint)


def recover_one(state: State, subject: InterruptedTransaction) -> None:
    """Recover one subject.

    Raises:
        VmtoolError: something could not be undone, or is still there.
    """
    problems = recover(state, subject)
    # After an upgrade that was interrupted one of the two stays.
    if subject.directory.parent == state.instances and replay(subject.directory).state != "applied":
        require_gone(LocalMachine(), state, subject.directory, problems)
    if problems:
        raise VmtoolError(subject.journal.subject, details=problems, hint="vmtool recover")
    click.echo(f"recovered: {subject.journal.subject}", err=True)


def adopt_subject(state: State, word: str, *, dry_run: bool, yes: bool) -> None:
    """Take up what is left of a subject whose journal cannot be followed, or does not know of it."""
    subject = read_subject(LocalMachine(), state, word)
    if not subject.damaged and not subject.found:
        click.echo(f"nothing to adopt: nothing of {word} is on this machine", err=True)
        return
    if not subject.damaged and subject.followed:
        raise Refused(f"the journal of {word} is whole, so it is undone from it", hint=subject.removal)
    entries = adopted_steps(subject.directory, subject.found)
    if dry_run:
        click.echo(f"# {subject.title}: {subject.why}")
        for entry in reversed(entries):
            click.echo("\n".join([f"# undo: {entry.title}", *shell_lines(entry.undo)]))
        return
    if not yes:
        confirm(state, subject, word)
    problems = adopt(state, subject.directory, subject.title, subject.found, subject.why, subject.aside)
    left = read_subject(LocalMachine(), state, word).found
    if left:
        raise VmtoolError(f"{word}: not everything could be removed",
                          details=[*problems, *(f"still there: {step.title}" for step in left)],
                          hint=f"vmtool recover --adopt {word}", log=str(subject.directory / "log" / "host.log"))
    show_adopted(subject, word, problems)


def confirm(state: State, subject: Subject, word: str) -> None:
    """What serves is not ended by the way, nor what may be of another state directory."""
    if subject.pid is not None:
        why = f"{word} runs (pid {subject.pid})"
    elif not subject.directory.is_dir():
        why = f"nothing on record says that {word} is of {state.root}; it may be of another state directory"
    else:
        return
    if not sys.stdin.isatty():
        raise Refused(why, details=[step.title for step in subject.found], hint=f"vmtool recover --adopt {word} --yes")
    click.confirm(f"{why}. Remove it?", abort=True)


def show_adopted(subject: Subject, word: str, problems: list[str]) -> None:
    """What was removed, and where the evidence is."""
    for step in subject.found:
        click.echo(f"removed: {step.title}", err=True)
    for problem in problems:
        click.echo(f"not done, and nothing is left of it: {problem}", err=True)
    kept = sorted(str(path) for path in subject.directory.glob("*.damaged-*"))
    click.echo(f"recovered: {subject.title}; what was damaged is kept: {', '.join(kept) or 'nothing'}", err=True)
