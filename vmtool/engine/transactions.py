"""Everything that has a journal: undoing it, removing it, recovering what was interrupted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vmtool.engine import apply, hooks
from vmtool.engine.journal import NAME, Journal, JournalState
from vmtool.errors import Damaged, Explained, VmtoolError
from vmtool.frozen import dataclass
from vmtool.host import files, locks
from vmtool.paths import NAME as INSTANCE
from vmtool.paths import State
from vmtool.plan import Plan, Step

WAIT = 60.0


@dataclass(frozen=True)
class InterruptedTransaction:
    """A subject with something left to undo, that nobody is at work on."""

    directory: Path
    journal: JournalState


def read_interrupted(state: State) -> list[InterruptedTransaction]:
    """What a kill, a crash or `--keep-on-failure` left, in every room of the state directory; of a journal that cannot
    be followed, see `read_damaged`."""
    found = []
    for directory in subjects(state):
        with contextlib.suppress(Damaged):
            replayed, busy = read_journal(state, directory)
            if not replayed.finished and not busy:
                found.append(InterruptedTransaction(directory, replayed))
    return found


def read_journal(state: State, directory: Path) -> tuple[JournalState, bool]:
    """What the journal of a subject says, and whether it is open because somebody is at work on it just now. Where
    nobody is, it is read once more: whoever was may have come to the end since it was read.

    Raises:
        Damaged: it cannot be followed.
    """
    replayed = Journal(directory).replay()
    if replayed.at_rest:
        return replayed, False
    if locks.is_held(state.lock(directory)):
        return replayed, True
    return Journal(directory).replay(), False


def read_damaged(state: State) -> list[Damaged]:
    """What is wrong with each journal that cannot be followed, so that nothing in it is guessed at."""
    found = []
    for directory in subjects(state):
        try:
            Journal(directory).replay()
        except Damaged as error:
            found.append(error)
    return found


def subjects(state: State) -> list[Path]:
    """Every directory in which a transaction was begun, whether or not its journal is still there."""
    return sorted(path for path in state.root.glob("*/*/") if is_instance(state, path) or any(
        os.path.lexists(path / name) for name in (NAME, "plan.json", "log/host.log")))


def is_instance(state: State, path: Path) -> bool:
    """Whether a directory is an instance's."""
    return path.parent == state.instances and bool(INSTANCE.fullmatch(path.name))


def recover(state: State, directory: Path, monitor: apply.Monitor, *, on: apply.MakeHost | None = None) -> list[str]:
    """Undo what the journal in `directory` shows; the directory with its logs stays, and so does what is applied.

    Returns:
        What could not be undone.
    """
    with working_on(state, directory, "vmtool recover"):
        replayed = Journal(directory).replay()
        if replayed.finished:
            return []  # Somebody has finished it since it was listed.
        hooks.authorise(undo_plan(directory, replayed))
        return apply.undo(directory, monitor, on=on)


def remove(state: State, directory: Path, doing: str, monitor: apply.Monitor, *,
           check: Callable[[list[str]], None] = lambda problems: None, first: Callable[[], None] = lambda: None,
           on: apply.MakeHost | None = None) -> None:
    """Undo everything, then remove the directory.

    Args:
        first: called when the locks are held.
        check: whether all is gone; it is given what could not be undone, and raises what says that something is there.

    Raises:
        VmtoolError: something could not be undone; the directory stays, for another try.
        Damaged: what is to be undone is not known.
    """
    with working_on(state, directory, doing):
        replayed = Journal(directory).replay()
        hooks.authorise(undo_plan(directory, replayed))
        first()
        two = bool(replayed.previous or replayed.retired)  # one of which was to replace the other
        # A full disk keeps nobody from removing what fills it: a kill before the journal goes undoes it once more.
        problems = apply.undo(directory, monitor, recorded=two, on=on)
        if two and not problems:
            problems = apply.undo(directory, monitor, recorded=False, on=on)
        if problems:
            check(problems)
            raise VmtoolError(f"{directory.name}: not everything could be removed, and nothing of it is forgotten",
                              details=problems, hint=doing, log=str(directory / "log" / "host.log"))
        check([])
        # The journal last: a kill in between must not make it seem to be lost.
        for name in files.names(str(directory)):
            if name != NAME:
                files.remove(directory / name)
        files.remove(directory)


def undo_plan(directory: Path, replayed: JournalState) -> Plan:
    """An undo as the plan that it amounts to, newest step first: for whoever must allow it."""
    return Plan(replayed.subject, directory, tuple(Step(f"undo: {entry.title}", entry.undo)
                                                   for entry in reversed(replayed.next_undo)))


def run_transaction(state: State, directory: Path, doing: str, make: Callable[[], Plan], monitor: apply.Monitor, *,
              keep: bool = False, on: apply.MakeHost | None = None) -> Plan:
    """Make and apply the plan of the subject in `directory`, under its lock: see `apply.apply`."""
    with locks.Lock(state.lock(directory), doing):
        try:
            return apply.apply(make, monitor, host_lock=state.host_lock, doing=doing, keep=keep, on=on)
        except Explained as error:
            log = directory / "log" / "host.log"
            error.log = error.log or (str(log) if log.exists() else "")
            raise


@contextlib.contextmanager
def working_on(state: State, directory: Path, doing: str) -> Iterator[None]:
    """Hold the subject's lock and the host's."""
    with locks.Lock(state.lock(directory), doing), locks.Lock(state.host_lock, doing, wait=WAIT):
        yield
