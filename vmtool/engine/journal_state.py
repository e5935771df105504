"""What the records of a journal amount to: the state of its subject, and what is left to undo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vmtool.plan import Action, action_from_json


@dataclass
class Entry:
    """A step that was begun and is not undone."""

    number: int
    title: str
    undo: tuple[Action, ...]


@dataclass
class JournalState:
    """What a journal shows.

    Args:
        state: "none" (no transaction), "unfinished", "applied", "failed", "undoing" or "clean".
        entries: steps not yet undone, oldest first.
        error: the message of the failure, when there was one.
        seconds: (step title, seconds) of the steps that were done.
        previous: steps of the transaction before, which was applied, as long as no step has taken their place.
    """

    state: str = "none"
    subject: str = ""
    entries: list[Entry] = field(default_factory=list)
    error: str = ""
    seconds: list[tuple[str, float]] = field(default_factory=list)
    previous: list[Entry] = field(default_factory=list)
    count: int = 0


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
            replayed.state, replayed.subject = "unfinished", record["subject"]
            replayed.previous = [_entry(replayed, each) for each in record.get("previous", ())]
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
            replayed.state = "undoing"
        case "undone":
            replayed.state = "undoing"
            replayed.entries = [entry for entry in replayed.entries if entry.number != record["step"]]
        case "clean" if replayed.previous:
            replayed.state, replayed.entries, replayed.previous = "applied", replayed.previous, []
        case "applied" | "clean" as state:
            replayed.state = state


def _entry(replayed: JournalState, record: dict[str, Any]) -> Entry:
    replayed.count += 1
    return Entry(replayed.count - 1, record["title"], tuple(action_from_json(action) for action in record["undo"]))
