"""Taking up what a journal that is damaged or gone should have undone: from the plan, from what is whole of the
journal, and from what is found on the machine, under a new journal; the old one is kept beside it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmtool.engine import apply, hooks
from vmtool.engine.journal import Entry, Journal
from vmtool.engine.journal_state import JournalState, begun_steps
from vmtool.engine.transactions import undo_plan, working_on
from vmtool.errors import Damaged
from vmtool.foreign import read_regular
from vmtool.host import files
from vmtool.paths import State
from vmtool.plan import Step, action_from_json
from vmtool.records import unsealed

LARGEST = 64 << 20


def adopt(state: State, directory: Path, subject: str, found: Sequence[Step], monitor: apply.Monitor, *, why: str,
          aside: Sequence[Path] = (), on: apply.MakeHost | None = None) -> list[str]:
    """Undo what was planned and what was found, the planned first: it is more exact. Both are on record before.

    Args:
        found: steps whose undo removes what is on the machine.
        why: the journal is not followed.
        aside: further damaged files of the subject, to be kept under another name.

    Returns:
        What could not be undone.
    """
    with working_on(state, directory, "vmtool recover --adopt"):
        entries = to_adopt(directory, found)
        hooks.authorise(undo_plan(directory, JournalState(subject=subject, entries=entries)))
        if os.path.lexists(directory) and not directory.is_dir():
            keep_aside(directory)
        journal = Journal(directory, undoing=True)
        for path in (journal.path, *aside):
            keep_aside(path)
        journal.take_up(subject, entries, why)
        return apply.undo(directory, monitor, on=on)


def to_adopt(directory: Path, found: Sequence[Step]) -> list[Entry]:
    """All steps to undo, oldest first, so that what was planned is undone first."""
    found_entries = [Entry(number, step.title, step.undo) for number, step in enumerate(found)]
    planned = [entry for entry in read_planned(directory) if entry.undo]
    return [*found_entries, *(Entry(len(found_entries) + number, entry.title, entry.undo)
                              for number, entry in enumerate(planned))]


def read_planned(directory: Path) -> list[Entry]:
    """The steps of the newest plan, and those that a journal's whole records have besides (of an earlier plan)."""
    planned = [] if not directory.is_dir() else list(_plan(directory))
    known = {(entry.title, entry.undo) for entry in planned}
    with contextlib.suppress(Damaged, OSError, ValueError, LookupError, TypeError, AttributeError):
        # A record without a number has no checksum either.
        records = [record for record in Journal(directory).file.lines().records if "number" in record]
        return [*(entry for entry in begun_steps(records) if (entry.title, entry.undo) not in known), *planned]
    return planned


def _plan(directory: Path) -> Iterator[Entry]:
    """The plans beside the journal, each when it is as it was written: what is in it is done."""
    for path in (directory / "plan.json", *sorted(directory.glob("?/plan.json"))):  # of each slot
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, Damaged):
            values, sealed = unsealed(read_regular(path, LARGEST))
            if sealed and values["directory"] == str(directory):
                yield from [Entry(number, step["title"], tuple(map(action_from_json, step["undo"])))
                            for number, step in enumerate(values["steps"])]


def keep_aside(path: Path) -> None:
    """Give it another name, beside its own: it is evidence."""
    if not os.path.lexists(path):
        return
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in range(1, 1000))
    os.rename(path, next(name for name in names if not os.path.lexists(name)))
    files.sync_directory(path.parent)
