"""Everything that has a journal: undoing it, removing it, recovering what was interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vmtool.engine import apply, hooks
from vmtool.engine.journal import NAME, Journal, JournalState
from vmtool.errors import VmtoolError
from vmtool.host import files, locks
from vmtool.paths import State
from vmtool.plan import Plan, Step

WAIT = 60.0
FINISHED = ("applied", "clean")


@dataclass(frozen=True)
class InterruptedTransaction:
    """A subject with something left to undo, that nobody is at work on."""

    directory: Path
    journal: JournalState


def read_interrupted(state: State) -> list[InterruptedTransaction]:
    """What a kill, a crash or `--keep-on-failure` left, in every room of the state directory; of a journal that
    another version of vmtool wrote, see `read_unreadable`."""
    found = []
    for path in sorted(state.root.glob(f"*/*/{NAME}")):
        with contextlib.suppress(ValueError):
            replayed = Journal(path.parent).replay()
            if replayed.state not in FINISHED and not locks.is_held(state.lock(path.parent)):
                found.append(InterruptedTransaction(path.parent, replayed))
    return found


def read_unreadable(state: State) -> list[str]:
    """A line for each journal that this version of vmtool cannot follow, so that nothing in it is guessed at."""
    found = []
    for path in sorted(state.root.glob(f"*/*/{NAME}")):
        try:
            Journal(path.parent).replay()
        except ValueError as error:
            reported = str(error)[:200]
            found.append(f"{path.parent}: another version of vmtool wrote its journal, which can undo it: {reported}")
    return found


def recover(state: State, directory: Path, monitor: apply.Monitor, *, on: apply.MakeHost | None = None) -> list[str]:
    """Undo what the journal in `directory` shows; the directory with its logs stays.

    Returns:
        What could not be undone.
    """
    with working_on(state, directory, "vmtool recover"):
        replayed = Journal(directory).replay()
        if replayed.state in FINISHED:
            return []  # Somebody has finished it since it was listed.
        hooks.authorise(undo_plan(directory, replayed))
        return apply.undo(directory, monitor, on=on)


def remove(state: State, directory: Path, doing: str, monitor: apply.Monitor, *,
           on: apply.MakeHost | None = None) -> None:
    """Undo everything, then remove the directory.

    Raises:
        VmtoolError: something could not be undone; the directory stays, for another try.
    """
    with working_on(state, directory, doing):
        hooks.authorise(undo_plan(directory, Journal(directory).replay()))
        problems = apply.undo(directory, monitor, on=on)
        if not problems and Journal(directory).replay().entries:  # of what the one that was interrupted was to replace
            problems = apply.undo(directory, monitor, on=on)
        if problems:
            raise VmtoolError(f"{directory.name}: not everything could be removed", details=problems,
                              hint=f"{doing} once more; nothing is forgotten", log=str(directory / "log" / "host.log"))
        files.remove(directory)


def undo_plan(directory: Path, replayed: JournalState) -> Plan:
    """An undo as the plan that it amounts to, newest step first: for whoever must allow it."""
    return Plan(replayed.subject, directory, tuple(Step(f"undo: {entry.title}", entry.undo)
                                                   for entry in reversed(replayed.entries)))


def run_transaction(state: State, directory: Path, doing: str, make: Callable[[], Plan], monitor: apply.Monitor, *,
              keep: bool = False, on: apply.MakeHost | None = None) -> Plan:
    """Make and apply the plan of the subject in `directory`, under its lock: see `apply.apply`."""
    with locks.Lock(state.lock(directory), doing):
        try:
            return apply.apply(make, monitor, host_lock=state.host_lock, doing=doing, keep=keep, on=on)
        except VmtoolError as error:
            log = directory / "log" / "host.log"
            error.log = error.log or (str(log) if log.exists() else "")
            raise


@contextlib.contextmanager
def working_on(state: State, directory: Path, doing: str) -> Iterator[None]:
    """Hold the subject's lock and the host's."""
    with locks.Lock(state.lock(directory), doing), locks.Lock(state.host_lock, doing, wait=WAIT):
        yield
