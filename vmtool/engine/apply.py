"""Doing a plan, and undoing what a journal shows: under the journal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Protocol

from vmtool.engine import hooks
from vmtool.engine.journal import Journal
from vmtool.engine.log import open_log
from vmtool.errors import Damaged, Explained, NotReady, ProgramMissing, VmtoolError
from vmtool.host import files, locks, signals
from vmtool.host.local import LocalHost
from vmtool.machine import Host
from vmtool.plan import Action, Plan, Step, to_json
from vmtool.records import sealed_text

# Seconds to wait for the host's lock before an undo is left to `vmtool recover`.
UNDO_WAIT = 600.0


class Monitor(Protocol):
    """Gets a report of what goes on; nothing below the CLI prints."""

    def step(self, title: str) -> None:
        """A step starts."""

    def skipped(self, title: str, why: str) -> None:
        """A step has nothing to do."""

    def note(self, text: str) -> None:
        """Something within the step changed, such as the seconds waited."""

    def done(self, seconds: float) -> None:
        """The step was done."""


# Makes the host that a plan is done on, from where its log and its notes go; a test gives one that reacts.
MakeHost = Callable[[IO[str], Callable[[str], None]], Host]


def apply(make: Callable[[], Plan], monitor: Monitor, *, host_lock: Path, doing: str, keep: bool = False,
          on: MakeHost | None = None) -> Plan:
    """Make a plan and do every step of it; on failure, Ctrl-C or SIGTERM undo everything (unless `keep`).

    The caller holds the lock of the plan's subject. The host's lock is taken before the plan is made, so that the
    facts are still true when it is done, and is let go before the steps that only wait: a model that loads for
    minutes blocks nobody. A plan that takes the place of the one before ends that one last, when it is applied itself.

    Returns:
        The plan. When it changes nothing, nothing is written.

    Raises:
        Explained: a step failed, or a signal came; everything was undone, or its details say what was not.
        Exception: what an authoriser of `hooks` refuses the plan with.
    """
    with locks.Lock(host_lock, doing, wait=60.0) as lock:
        plan = make()
        if plan.changes:
            hooks.authorise(plan)
            with open_log(plan.directory) as log, signals.interrupting():
                _do(plan, (on or LocalHost)(log, monitor.note), lock, monitor, keep, on)
    return plan


def _do(plan: Plan, host: Host, lock: locks.Lock, monitor: Monitor, keep: bool, on: MakeHost | None) -> None:
    journal = Journal(plan.directory)
    old = journal.replay()  # before its plan is replaced: where it is damaged, that is needed
    files.write(plan.directory / plan.slot / "plan.json", sealed_text(to_json(plan)))
    if plan.facts:
        files.write(plan.directory / plan.slot / "facts.json", plan.facts)
    ends = [step for step in plan.steps if step.ends_previous]
    try:
        journal.start(plan.subject, old, clears=any(step.clears_previous for step in plan.steps), slot=plan.slot,
                      replaces=any(step.replaces_previous for step in plan.steps) or bool(ends))
        _do_all(plan, journal, monitor, host, lock)
        journal.write("applied", **({"ends_previous": True} if ends else {}))
    except BaseException as error:
        # Until it started, the journal holds what an earlier transaction did, which is not for this failure to undo.
        if journal.started:
            with signals.waiting():
                _undo_after(error, plan, lock, monitor, journal, keep, on)
        raise
    for step in ends:
        _end_previous(step, plan, lock, monitor, on)


def in_order(steps: Iterable[Step]) -> list[Step]:
    """The steps as they are done: first what changes the host, then what only waits, then what closes."""
    return sorted((step for step in steps if not step.ends_previous), key=lambda step: (
        step.closing, step.waits_only and not step.closing))


def _do_all(plan: Plan, journal: Journal, monitor: Monitor, host: Host, lock: locks.Lock) -> None:
    for step in in_order(plan.steps):
        if step.waits_only:
            lock.let_go()
        elif lock.descriptor < 0:
            lock.wait = UNDO_WAIT
            lock.take()
        _do_step(step, journal, monitor, host)


def _end_previous(step: Step, plan: Plan, lock: locks.Lock, monitor: Monitor, on: MakeHost | None) -> None:
    """Undo what the transaction before did: the new one is applied, so nothing of it is undone, whatever fails here."""
    began = time.monotonic()
    with signals.waiting():
        problems = _undo_all(step.title, plan, lock, monitor, on)
    if problems:
        raise VmtoolError(f"{plan.subject}: the new one is in use; not everything of the one before could be removed",
                          details=problems, hint="vmtool recover")
    monitor.done(time.monotonic() - began)


def _undo_after(error: BaseException, plan: Plan, lock: locks.Lock, monitor: Monitor, journal: Journal, keep: bool,
                on: MakeHost | None) -> None:
    """Undo all after an error. Nothing but a host that stays busy may prevent it: no full disk, no lost terminal."""
    journal.undoing = True
    with contextlib.suppress(OSError):
        journal.write("failed", error=str(error) or type(error).__name__)
    if keep:
        return
    problems = _undo_all("undo everything", plan, lock, monitor, on)
    if problems and isinstance(error, Explained):
        error.details += ("not undone:", *problems)
        error.hint = "vmtool recover"


def _undo_all(title: str, plan: Plan, lock: locks.Lock, monitor: Monitor, on: MakeHost | None) -> list[str]:
    """Undo under the host's lock; what could not be undone, also for want of the lock."""
    with contextlib.suppress(OSError):
        monitor.step(title)
    lock.wait = UNDO_WAIT
    try:
        lock.take()
        return undo(plan.directory, monitor, on=on)
    except (NotReady, Damaged) as lost:
        return [lost.message]


def undo(directory: Path, monitor: Monitor, *, recorded: bool = True, on: MakeHost | None = None) -> list[str]:
    """Undo every step that the journal in `directory` records, newest first; of two transactions those of the one that
    is not to stay.

    Each step's undo is announced in the journal before its first action, so that whatever ends this, `vmtool recover`
    sees it. Every undo action is tried, also after another has failed (what `stops_undo` or `needs_undone` is the
    exception). A step is marked as undone only when all of its actions worked, so that a later call finds the rest.

    Args:
        recorded: what is undone and could not be recorded counts as a problem; not where the journal goes next.

    Returns:
        What could not be undone, a line each; empty when nothing is left.
    """
    journal = Journal(directory, undoing=True)
    replayed = journal.replay()
    problems, unrecorded = list[str](), list[str]()
    with open_log(directory) as log, signals.waiting():
        host = (on or LocalHost)(log, lambda text: None)
        for entry in reversed(replayed.next_undo):
            with contextlib.suppress(OSError):
                monitor.note(f"undo: {entry.title}")
            if entry.undo:
                _record(journal, entry.title, "undoing", step=entry.number)
            failures = _undo_entry(entry.undo, host)
            problems += [f"{entry.title}: {failure}" for failure in failures]
            if not failures:
                unrecorded += _record(journal, entry.title, "undone", step=entry.number)
    if not problems and not unrecorded and replayed.state != "none" and not replayed.retired:
        unrecorded += _record(journal, "everything", "clean")
    return problems + (unrecorded if recorded else [])


def _record(journal: Journal, what: str, event: str, **values: int) -> list[str]:
    """Write a record of an undo; a full disk must not stop the undo."""
    try:
        journal.write(event, **values)
    except OSError as error:
        return [f"{what}: undone, but that could not be recorded: {error.strerror}"]
    return []


def _do_step(step: Step, journal: Journal, monitor: Monitor, host: Host) -> None:
    if step.skip:
        monitor.skipped(step.title, step.skip)
        return
    monitor.step(step.title)
    journal.step(step)
    started = time.monotonic()
    for action in step.actions:
        journal.write("begin", shell=action.shell())
        begun = time.monotonic()
        try:
            action.do(host)
        except OSError as error:
            raise VmtoolError(f"{step.title}: {error.strerror}: {error.filename or action.shell()}") from error
        journal.write("end", seconds=round(time.monotonic() - begun, 4))
    if step.clears_previous:
        journal.forget()
    monitor.done(time.monotonic() - started)


def _undo_entry(actions: Iterable[Action], host: Host) -> list[str]:
    """Do each undo action, also after another has failed, but for what must wait for it."""
    failures: list[str] = []
    for action in actions:
        if failures and action.needs_undone:
            continue
        if failure := _undo_action(action, host):
            failures.append(failure)
            if action.stops_undo:
                break
    return failures


def _undo_action(action: Action, host: Host) -> str:
    """Do an undo action; what went wrong, or nothing."""
    try:
        action.do(host)
    except ProgramMissing as error:
        return error.message
    except OSError as error:
        return str(error)
    except VmtoolError as error:
        hint = [f"hint: {error.hint}"] if error.hint else []
        return ": ".join((str(error), *error.details[-1:], *hint))
    return ""
