"""Doing a plan, and undoing what a journal tells: under the journal."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

from vmtool import plan as p
from vmtool.engine.journal import Journal
from vmtool.engine.perform import perform
from vmtool.errors import NotReady, ProgramMissing, VmtoolError
from vmtool.host import files, locks, signals

# Seconds to wait for the host's lock before an undo is left to `vmtool recover`.
UNDO_WAIT = 600.0


class Monitor(Protocol):
    """Is told what goes on; nothing below the CLI prints."""

    def step(self, title: str) -> None:
        """A step starts."""

    def skipped(self, title: str, why: str) -> None:
        """A step has nothing to do."""

    def note(self, text: str) -> None:
        """Something within the step changed, such as the seconds waited."""

    def done(self, seconds: float) -> None:
        """The step was done."""


def apply(make: Callable[[], p.Plan], monitor: Monitor, *, host_lock: Path, doing: str, keep: bool = False) -> p.Plan:
    """Make a plan and do every step of it; on failure, Ctrl-C or SIGTERM go all the way back (unless `keep`).

    The caller holds the lock of the plan's subject. The host's lock is taken before the plan is made, so that the
    facts are still true when it is done, and is let go before the steps that only wait: a model that loads for
    minutes blocks nobody.

    Returns:
        The plan. When it changes nothing, nothing is written.

    Raises:
        VmtoolError: a step failed; everything was undone, or the error's details say what was not.
    """
    with locks.Lock(host_lock, doing, wait=60.0) as host:
        plan = make()
        if plan.changes:
            with open_log(plan.directory) as log, signals.interrupting():
                _do(plan, host, monitor, log, keep)
    return plan


def _do(plan: p.Plan, host: locks.Lock, monitor: Monitor, log: IO[str], keep: bool) -> None:
    journal = Journal(plan.directory)
    files.write(plan.directory / "plan.json", json.dumps(p.to_json(plan), indent=1) + "\n")
    journal.start(plan.subject, clears=any(step.clears for step in plan.steps))
    try:
        _do_steps([step for step in plan.steps if not step.waits], journal, monitor, log)
        host.let_go()
        _do_steps([step for step in plan.steps if step.waits], journal, monitor, log)
        journal.write("applied")
    except BaseException as error:
        with signals.waiting():
            _go_back(plan, error, host, monitor, journal, keep)
        raise


def _go_back(plan: p.Plan, error: BaseException, host: locks.Lock, monitor: Monitor, journal: Journal,
             keep: bool) -> None:
    """Undo all after an error. Nothing but a host that stays busy may prevent it: no full disk, no lost terminal."""
    with contextlib.suppress(OSError):
        journal.write("failed", error=str(error) or type(error).__name__)
    if keep:
        return
    with contextlib.suppress(OSError):
        monitor.step("undo everything")
    host.wait = UNDO_WAIT
    try:
        host.take()
        problems = undo(plan.directory, monitor)
    except NotReady as busy:
        problems = [busy.message]
    if problems and isinstance(error, VmtoolError):
        error.details += ("not undone:", *problems)
        error.hint = "vmtool recover"


def undo(directory: Path, monitor: Monitor) -> list[str]:
    """Go the way back of every step that the journal in `directory` tells of, newest first.

    Every undo action is tried, also after another has failed (`plan.AwaitFree` is the exception). A step is marked as
    undone only when all of its actions worked, so that a later call finds the rest.

    Returns:
        What could not be undone, a line each; empty when nothing is left.
    """
    journal = Journal(directory)
    story = journal.story()
    problems: list[str] = []
    with open_log(directory) as log, signals.waiting():
        for entry in reversed(story.entries):
            with contextlib.suppress(OSError):
                monitor.note(f"undo: {entry.title}")
            failures = _undo_entry(entry.undo, log)
            problems += [f"{entry.title}: {failure}" for failure in failures]
            if not failures:
                problems += _record(journal, entry.title, "undone", step=entry.number)
    if not problems and story.state != "none":
        problems += _record(journal, "everything", "clean")
    return problems


def _record(journal: Journal, what: str, event: str, **values: int) -> list[str]:
    """Write a record of an undo; a full disk must not stop the undo."""
    try:
        journal.write(event, **values)
    except OSError as error:
        return [f"{what}: undone, but that could not be recorded: {error.strerror}"]
    return []


def _do_steps(steps: Iterable[p.Step], journal: Journal, monitor: Monitor, log: IO[str]) -> None:
    for step in steps:
        if step.skip:
            monitor.skipped(step.title, step.skip)
            continue
        monitor.step(step.title)
        journal.step(step)
        started = time.monotonic()
        for action in step.actions:
            journal.write("begin", shell=action.shell())
            begun = time.monotonic()
            try:
                perform(action, log, monitor.note)
            except OSError as error:
                raise VmtoolError(f"{step.title}: {error.strerror}: {error.filename or action.shell()}") from error
            journal.write("end", seconds=round(time.monotonic() - begun, 4))
        if step.clears:
            journal.forget()
        monitor.done(time.monotonic() - started)


def _undo_entry(actions: Iterable[p.Action], log: IO[str]) -> list[str]:
    """Do each undo action, also after another has failed, but for what must wait until a device is free."""
    failures = []
    for action in actions:
        if failure := _undo_action(action, log):
            failures.append(failure)
            if isinstance(action, p.AwaitFree):
                break
    return failures


def _undo_action(action: p.Action, log: IO[str]) -> str:
    """Do an undo action; what went wrong, or nothing."""
    try:
        perform(action, log, lambda text: None)
    except ProgramMissing as error:
        return error.message
    except (VmtoolError, OSError) as error:
        details = error.details[-1:] if isinstance(error, VmtoolError) else ()
        return ": ".join((str(error), *details))
    return ""


@contextlib.contextmanager
def open_log(directory: Path) -> Iterator[IO[str]]:
    """The host side's log of a subject: every command line with its output."""
    path = directory / "log" / "host.log"
    files.make_private(path.parent)
    with open(path, "a", encoding="utf-8") as log:
        path.chmod(0o600)
        yield log
