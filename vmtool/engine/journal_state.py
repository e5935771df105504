"""What the records of a journal amount to: the state of its subject, and what is left to undo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from vmtool.plan import Action, action_from_json


@dataclass
class Entry:
    """A step that was begun and is not undone."""

    number: int
    title: str
    undo: tuple[Action, ...]
    inherited: bool = False


@dataclass
class JournalState:
    """What a journal shows.

    Args:
        state: "none" (no transaction), "unfinished", "applied", "failed", "undoing" or "clean".
        entries: steps not yet undone, oldest first.
        error: the message of the failure, when there was one.
        seconds: (step title, seconds) of the steps that were done.
        previous: steps of the transaction before, which was applied, as long as no step has taken their place.
        retired: steps of the transaction before that this one, which is applied, has taken the place of: what is left
            to undo of them.
        slot: where the files are of what is applied; of a transaction that takes nobody's place, where they will be.
    """

    state: str = "none"
    subject: str = ""
    entries: list[Entry] = field(default_factory=list)
    error: str = ""
    seconds: list[tuple[str, float]] = field(default_factory=list)
    previous: list[Entry] = field(default_factory=list)
    retired: list[Entry] = field(default_factory=list)
    slot: str = ""
    next_slot: str = ""
    count: int = 0

    @property
    def at_rest(self) -> bool:
        """Whether it is applied, and there is nothing of another transaction."""
        return self.state == "applied" and not (self.previous or self.retired)

    @property
    def finished(self) -> bool:
        """Whether nothing of it was interrupted."""
        return self.state in ("none", "applied", "clean") and not self.retired

    @property
    def standing(self) -> list[Entry]:
        """Everything that is there, in the order in which it was made, of whichever transaction."""
        if self.previous:
            return [*self.previous, *(entry for entry in self.entries if not entry.inherited)]
        return [*self.entries, *self.retired]

    @property
    def next_undo(self) -> list[Entry]:
        """What an undo that begins now undoes, oldest first: of two transactions the one that is not to stay."""
        if self.previous:
            return [replace(entry, undo=()) if entry.inherited else entry for entry in self.entries]
        return self.retired or self.entries


def fold(records: Iterable[dict[str, Any]]) -> JournalState:
    """The records folded into the present state.

    Raises:
        ValueError: a record is not of this vmtool's vocabulary.
    """
    replayed = JournalState()
    for record in records:
        try:
            _apply_record(replayed, record)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a record of this vmtool: {record!r}") from error
    return replayed


def begun_steps(records: Iterable[dict[str, Any]]) -> list[Entry]:
    """Every step that some of a journal's records name; which of them were undone the others may have said."""
    steps = [step for record in records
             for step in (record.get("previous", ()) if record["event"] == "plan" else
                          [record] if record["event"] == "step" else ())]
    return [Entry(number, step["title"], tuple(map(action_from_json, step["undo"])))
            for number, step in enumerate(steps)]


def _apply_record(replayed: JournalState, record: dict[str, Any]) -> None:
    match record["event"]:
        case "plan":
            _begin(replayed, record)
        case "step":
            replayed.entries.append(_entry(replayed, record))
            replayed.previous = [] if record.get("replaces") else replayed.previous
            replayed.seconds.append((record["title"], 0.0))
        case "end":
            title, seconds = replayed.seconds[-1]
            replayed.seconds[-1] = (title, seconds + record["seconds"])
        case "failed":
            replayed.state, replayed.error = "failed", record["error"]
        case "undoing":
            _undo(replayed)
        case "undone":
            _undo(replayed, record["step"])
        case "clean" if replayed.previous:
            replayed.state, replayed.entries, replayed.previous = "applied", replayed.previous, []
        case "applied" if record.get("ends_previous"):
            _take_place(replayed)
        case "applied" | "clean" as state:
            replayed.state = state


def _begin(replayed: JournalState, record: dict[str, Any]) -> None:
    replayed.state, replayed.subject = "unfinished", record["subject"]
    replayed.previous = [_entry(replayed, each) for each in record.get("previous", ())]
    replayed.next_slot = record.get("slot", "")
    replayed.slot = record.get("previous_slot", "") if replayed.previous else replayed.next_slot


def _take_place(replayed: JournalState) -> None:
    """From now on the new one is what is applied, and of the one before is left what is to be undone."""
    kept = [entry.undo for entry in replayed.entries if entry.inherited]
    replayed.retired = [entry for entry in replayed.previous if entry.undo not in kept]
    replayed.state, replayed.previous, replayed.slot = "applied", [], replayed.next_slot


def _undo(replayed: JournalState, done: int | None = None) -> None:
    """A step's undo begins, or is done; an undo of what is retired leaves what is applied as it is."""
    if replayed.retired:
        replayed.retired = [entry for entry in replayed.retired if entry.number != done]
        return
    replayed.state = "undoing"
    replayed.entries = [entry for entry in replayed.entries if entry.number != done]


def _entry(replayed: JournalState, record: dict[str, Any]) -> Entry:
    replayed.count += 1
    return Entry(replayed.count - 1, record["title"], tuple(action_from_json(action) for action in record["undo"]),
                 record.get("inherited", False))
