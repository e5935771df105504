"""The journal of one subject: what was begun, and how to undo it, written before it is done.

One JSON record a line, each fsynced before the action it announces. A last line that is cut short (power loss, kill
in the middle of a write) announces nothing that was begun, so it is ignored. Anything else that is not as it was
written is damage: see `vmtool.engine.journal_lines`.

Records: {"number", "at", "event", ..., "checksum"} with event
    plan    subject, previous       a new transaction starts; `previous` are the steps of one that was applied, when
                                    the new one is to take its place; `slot` and `previous_slot`: see `Plan.slot`
    step    title, undo, replaces   the step is about to start; `undo` is its undo; with `replaces` also that of
                                    all that is in `previous`; with `inherited` that of something in `previous`
    begin   action, shell           the action is about to be done
    end     seconds                 it was done
    failed  error                   it, or the wait for it, failed
    applied ends_previous           every step was done; with `ends_previous` what is in `previous` is to be undone
    undoing step                    the step's undo is about to begin
    undone  step                    it was gone to its end
    clean                           nothing of the transaction is left; what is in `previous` is applied, as before
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtool.engine import hooks
from vmtool.engine.journal_file import NAME, JournalFile
from vmtool.engine.journal_lines import parse_lines
from vmtool.engine.journal_state import Entry, JournalState, fold
from vmtool.host import files
from vmtool.plan import Step, to_json

__all__ = ["NAME", "Entry", "Journal", "JournalState"]


class Journal:
    """Appends to, and reads, `directory`/journal.jsonl; every record passes the observers of `hooks`.

    Args:
        undoing: the records to write are of an undo, which no observer can stop.

    Attributes:
        started: `start` has put its transaction in the place of the old one.
    """

    def __init__(self, directory: Path, *, undoing: bool = False) -> None:
        self.file = JournalFile(directory)
        self.path = self.file.path
        self.undoing = undoing
        self.started = False

    def start(self, subject: str, old: JournalState | None = None, *, clears: bool = False,
              replaces: bool = False, slot: str = "") -> None:
        """Begin a new transaction; it takes the place of the old one's records at once, never half.

        What the old one left to undo is carried over when it was interrupted, and when the new one `clears` it: until
        a step has done so, a kill must not make it forgotten. For the same reason what was applied stays on record when
        a step of the new one `replaces` it, until that step is.
        """
        old = old or self.replay()
        carried = old.standing if clears else old.entries if old.state not in ("applied", "clean") else []
        previous = old.previous or (old.entries if old.state == "applied" and not clears else [])
        kept: dict[str, Any] = {"slot": slot} if slot else {}
        if replaces and previous:
            kept |= {"previous": [_values(entry) for entry in previous], "previous_slot": old.slot}
        self._begin(subject, kept, carried)

    def _begin(self, subject: str, kept: dict[str, Any], steps: Sequence[Entry],
               then: Sequence[dict[str, Any]] = ()) -> None:
        lines = parse_lines(b"", self.file.subject)
        begun = [_record("plan", {"subject": subject, **kept}), *(_record("step", _values(entry)) for entry in steps)]
        text = "".join(map(lines.next_line, [*begun, *then]))
        with hooks.observed(self.path.parent, "plan", {"subject": subject}, undoing=self.undoing):
            files.write(self.path, text)
            self.started = True

    def take_up(self, subject: str, entries: Sequence[Entry], why: str) -> None:
        """Begin with steps that are to be undone, in the place of a journal that is kept elsewhere."""
        self._begin(subject, {}, entries, [_record("failed", {"error": why})])

    def forget(self) -> None:
        """Note that everything begun so far is undone: the step that clears has done its work.

        Newest first, as an undo goes: of a half of these notes the rest is still a whole undo. The container's
        wakes containerd, and only an older one puts it to sleep again.
        """
        for entry in reversed(self.replay().entries):
            self.write("undone", step=entry.number)

    def step(self, step: Step) -> None:
        """Announce a step with its undo."""
        self.write("step", title=step.title, undo=to_json(step.undo),
                   **({"replaces": True} if step.replaces_previous else {}),
                   **({"inherited": True} if step.inherited else {}))

    def write(self, event: str, **values: Any) -> None:
        """Append one record durably."""
        with hooks.observed(self.path.parent, event, values, undoing=self.undoing):
            self.file.append(_record(event, values))

    def records(self) -> list[dict[str, Any]]:
        """All whole records; empty when there is no journal, and nothing that was done under one.

        Raises:
            Damaged: something is not as it was written, or is gone.
        """
        return self.file.whole_lines().records

    def replay(self) -> JournalState:
        """The records folded into the present state.

        Raises:
            Damaged: as `records`, or another version of vmtool wrote them.
        """
        try:
            return fold(self.records())
        except ValueError as error:
            raise self.file.damage(f"was written by another version of vmtool: {str(error)[:200]}") from error


def _values(entry: Entry) -> dict[str, Any]:
    return {"title": entry.title, "undo": to_json(entry.undo), **({"inherited": True} if entry.inherited else {})}


def _record(event: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"at": round(time.time(), 3), "event": event, **values}
