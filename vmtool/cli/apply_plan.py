"""Applying a plan with progress, undoing and removing: the one place outside the engine that calls it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from vmtool.cli.output import Progress
from vmtool.engine import adopt as engine_adopt
from vmtool.engine import hooks, transactions
from vmtool.engine.hooks import authorise
from vmtool.engine.journal import Journal, JournalState
from vmtool.engine.journal_lines import parse_lines
from vmtool.engine.log import open_log
from vmtool.engine.transactions import InterruptedTransaction, read_damaged, read_interrupted, read_journal
from vmtool.errors import Damaged
from vmtool.host import event_log
from vmtool.host.local import LocalHost
from vmtool.machine import Host
from vmtool.paths import State
from vmtool.plan import Plan, Step, plan_lines

__all__ = ["InterruptedTransaction", "JournalState", "adopt", "adopted_steps", "apply_and_explain", "apply_plan",
           "authorise", "has_undo", "is_interrupted", "journal_damage", "logged_host", "parse_journal",
           "read_damaged", "read_interrupted", "read_journal", "recover", "remove", "replay", "show_or_apply",
           "working_host"]

# What a record of an instance's journal is called among its events.
EVENTS = {"plan": "starting", "applied": "started", "failed": "start-failed", "clean": "undone"}


def apply_plan(state: State, directory: Path, doing: str, make: Callable[[], Plan], *, keep: bool = False) -> Plan:
    """Make and apply the plan of the subject in `directory`, with progress on stderr; `keep` as in `engine.apply`."""
    with _at_work(doing) as progress:
        return transactions.run_transaction(state, directory, doing, make, progress, keep=keep)


def show_or_apply(state: State, directory: Path, doing: str, make: Callable[[], Plan], dry_run: bool) -> bool:
    """With `dry_run` print the plan as a runbook, else apply it; whether something was changed."""
    if dry_run:
        click.echo("\n".join(plan_lines(make())))
        return False
    return apply_and_explain(state, directory, doing, make).changes


def apply_and_explain(state: State, directory: Path, doing: str, make: Callable[[], Plan]) -> Plan:
    """Apply a plan; when there is nothing to do, say why."""
    plan = apply_plan(state, directory, doing, make)
    if not plan.changes:
        for step in plan.steps:
            Progress().skipped(step.title, step.skip)
    return plan


def remove(state: State, directory: Path, doing: str,
           check: Callable[[list[str]], None] = lambda problems: None,
           first: Callable[[Host], None] = lambda host: None) -> None:
    """Undo everything of a subject, then remove its directory, with progress; `check` and `first` as in
    `engine.transactions`."""
    def begin() -> None:
        with logged_host(directory) as host:
            first(host)

    with _at_work(doing) as progress:
        transactions.remove(state, directory, doing, progress, check=check, first=begin)


def adopt(state: State, directory: Path, subject: str, found: Sequence[Step], why: str,
          aside: Sequence[Path] = ()) -> list[str]:
    """Undo what was planned and what was found of a subject whose journal is lost: see `engine.adopt`."""
    with _at_work("vmtool recover --adopt") as progress:
        return engine_adopt.adopt(state, directory, subject, found, progress, why=why, aside=aside)


def adopted_steps(directory: Path, found: Sequence[Step]) -> list[Step]:
    """What that would undo, oldest first."""
    return [Step(entry.title, undo=entry.undo) for entry in engine_adopt.to_adopt(directory, found)]


def replay(directory: Path) -> JournalState:
    """What the journal of a subject says.

    Raises:
        Damaged: it cannot be followed.
    """
    return Journal(directory).replay()


def journal_damage(directory: Path) -> Damaged | None:
    """What is wrong with a subject's journal."""
    try:
        Journal(directory).replay()
    except Damaged as error:
        return error
    return None


def parse_journal(data: bytes, subject: str) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The records of a whole journal that somebody hands over, and what is wrong with it, by its line. There, unlike on
    the host, a record without a checksum is wrong, and so is a last line that was cut short.

    Args:
        subject: whose journal it must be, such as "instances/chat".
    """
    lines = parse_lines(data, subject)
    problems = list(lines.problems)
    if not lines.sealed or any("number" not in record for record in lines.records):
        problems.append((1, "a record has no checksum"))
    if lines.whole != len(data) or not lines.ended:
        problems.append((data.count(b"\n") + 1, "it is cut short"))
    return lines.records, problems


def recover(state: State, subject: InterruptedTransaction) -> list[str]:
    """Undo what an interrupted transaction left; what could not be undone."""
    with _at_work("vmtool recover") as progress:
        return transactions.recover(state, subject.directory, progress)


def has_undo(directory: Path) -> bool:
    """Whether the journal of a subject knows anything to undo."""
    return bool(Journal(directory).replay().entries)


def is_interrupted(directory: Path) -> bool:
    """Whether a transaction on the subject ended before its end and was not undone."""
    replayed = Journal(directory).replay()
    return bool(replayed.entries) and replayed.state != "applied"


@contextlib.contextmanager
def working_host(state: State, plan: Plan, doing: str) -> Iterator[Host]:
    """This machine, for a change that needs no undo: under the lock of the plan's directory and the host's. How its
    actions are done is the caller's to say."""
    with transactions.working_on(state, plan.directory, doing), logged_host(plan.directory) as host:
        authorise(plan)
        yield host


@contextlib.contextmanager
def logged_host(directory: Path, note: Callable[[str], None] = lambda text: None) -> Iterator[Host]:
    """This machine, with the log of a subject; `note` receives what whoever waits may want to know."""
    with open_log(directory) as log:
        yield LocalHost(log, note)


@contextlib.contextmanager
def _at_work(doing: str) -> Iterator[Progress]:
    """Progress, and events of the instances."""
    progress, before = Progress(), hooks.observers
    hooks.observers = (*before, partial(_record, doing))
    try:
        yield progress
    finally:
        hooks.observers = before
        progress.close()


def _record(doing: str, event: hooks.Event) -> None:
    """Note what a journal's record means for its instance."""
    if event.directory.parent.name != "instances" or event.name not in EVENTS:
        return
    if event.name == "plan" and event.moment == "before":
        event_log.collect(event.directory)  # what runs next may remove the log of what ran before
    elif event.moment == "after":
        why = {"error": str(event.values["error"])[:500]} if "error" in event.values else {}
        event_log.record(event.directory, EVENTS[event.name], by=doing, **why)
