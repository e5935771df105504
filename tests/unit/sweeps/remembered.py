"""What thousands of kills would read again and again, read once: the lines of journals, and the actions in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from vmtool.engine import journal_lines
from vmtool.engine.journal_lines import Lines
from vmtool.plan import Action, action_from_json


@dataclass
class Remembered:
    """In the place of `parse_lines` and of `action_from_json`, as long as nobody changes a line.

    A line's checksum goes on from the line before it, so that a line stands for all that comes before it.
    """

    known: dict[tuple[str, int, bytes], Lines] = field(default_factory=dict)
    read: dict[int, tuple[dict[str, Any], Action]] = field(default_factory=dict)

    def parse_lines(self, data: bytes, subject: str) -> Lines:
        *lines, tail = data.split(b"\n")
        number = next((number for number in range(len(lines), 0, -1)
                       if (subject, number, lines[number - 1]) in self.known), 0)
        if not number:
            found = journal_lines.parse_lines(b"", subject)
        else:
            found = copied(self.known[subject, number, lines[number - 1]])
        for at, line in enumerate(lines[number:], number + 1):
            found.take(line)
            if found.sealed:
                self.known[subject, at, line] = copied(found)
        found.whole = len(data) - len(tail)
        found.end(tail)
        return found

    def action_from_json(self, record: dict[str, Any]) -> Action:
        """A line's records are the same objects each time."""
        if id(record) not in self.read:
            self.read[id(record)] = record, action_from_json(record)
        return self.read[id(record)][1]


def copied(lines: Lines) -> Lines:
    """A copy whose lists can grow."""
    return replace(lines, records=[*lines.records], problems=[*lines.problems])
