"""The journal of one subject: what was begun, and how to undo it, written before it is done.

One JSON record a line, each fsynced before the action it announces. A last line that is cut short (power loss, kill
in the middle of a write) announces nothing that was begun, so it is ignored.

Records: {"at", "event", ...} with event
    plan    subject, previous       a new transaction starts; `previous` are the steps of one that was applied, when
                                    the new one is to take its place
    step    title, undo, replaces   the step is about to start; `undo` is its undo; with `replaces` also that of
                                    all that is in `previous`
    begin   action, shell           the action is about to be done
    end     seconds                 it was done
    failed  error                   it, or the wait for it, failed
    applied                         every step was done
    undoing step                    the step's undo is about to begin
    undone  step                    it was gone to its end
    clean                           nothing of the transaction is left; what is in `previous` is applied, as before
"""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmtool.engine import hooks
from vmtool.foreign import parse_json
from vmtool.host import files
from vmtool.plan import Action, Step, action_from_json, to_json

NAME = "journal.jsonl"


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


class Journal:
    """Appends to, and reads, `directory`/journal.jsonl; every record passes the observers of `hooks`.

    Args:
        undoing: the records to write are of an undo, which no observer can stop.

    Attributes:
        started: `start` has put its transaction in the place of the old one.
    """

    def __init__(self, directory: Path, *, undoing: bool = False) -> None:
        self.path = directory / NAME
        self.undoing = undoing
        self.started = False

    def start(self, subject: str, *, clears: bool = False, replaces: bool = False) -> None:
        """Begin a new transaction; it takes the place of the old one's records at once, never half.

        What the old one left to undo is carried over when it was interrupted, and when the new one `clears` it: until
        a step has done so, a kill must not make it forgotten. For the same reason what was applied stays on record when
        a step of the new one `replaces` it, until that step is.
        """
        old = self.replay()
        carried = old.entries if clears or old.state not in ("applied", "clean") else []
        previous = old.previous or (old.entries if old.state == "applied" and not clears else [])
        kept = {"previous": [_values(entry) for entry in previous]} if replaces and previous else {}
        lines = [_line("step", _values(entry)) for entry in carried]
        with hooks.observed(self.path.parent, "plan", {"subject": subject}, undoing=self.undoing):
            files.write(self.path, "".join([_line("plan", {"subject": subject, **kept}), *lines]))
            self.started = True

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
                   **({"replaces": True} if step.replaces_previous else {}))

    def write(self, event: str, **values: Any) -> None:
        """Append one record durably."""
        with hooks.observed(self.path.parent, event, values, undoing=self.undoing):
            self._append(_line(event, values))

    def _append(self, line: str) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            grow_interrupted = size and os.pread(descriptor, 1, size - 1) != b"\n"
            data = ("\n" if grow_interrupted else "").encode() + line.encode()
            if os.write(descriptor, data) != len(data):
                # What follows would be done without a recorded undo.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def records(self) -> list[dict[str, Any]]:
        """All whole records; empty when there is no journal."""
        try:
            lines = self.path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [record for record in map(_parse, lines) if record]

    def replay(self) -> JournalState:
        """The records folded into the present state.

        Raises:
            ValueError: a record is not of this vmtool's vocabulary.
        """
        replayed = JournalState()
        for record in self.records():
            try:
                _apply_record(replayed, record)
            except (LookupError, TypeError, AttributeError) as error:
                raise ValueError(f"not a record of this vmtool: {record!r}") from error
        return replayed


def _values(entry: Entry) -> dict[str, Any]:
    return {"title": entry.title, "undo": to_json(entry.undo)}


def _line(event: str, values: dict[str, Any]) -> str:
    return json.dumps({"at": round(time.time(), 3), "event": event, **values}) + "\n"


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


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
