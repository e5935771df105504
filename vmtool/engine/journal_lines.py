"""The lines of a journal: each carries a running number, and a checksum that goes on from the line before it.

So a line that was changed, removed, repeated or moved is noticed, with its place. vmtool 0.1 wrote lines without; they
are read as they are, and a line that is added to them seals them too.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from vmtool.foreign import parse_json

SEAL = re.compile(rb', "checksum": "([0-9a-f]{16})"\}')
# What only an undo writes: in a journal of 0.1 it can follow a line that a kill or a full disk cut short.
AFTER_TORN = ("failed", "undoing", "undone", "clean")


@dataclass
class Lines:
    """What a journal's file holds, line by line.

    Args:
        chain: the checksum of the last line; that of no line names the subject, lest another's journal be taken.
        number: of the last record.
        sealed: the last line has a checksum.
        records: of the lines that are as they were written.
        problems: of every other, after the number of its line.
        whole: bytes of the file up to the end of its last line; what follows was cut short.
        ended: the last line ends with a line break.
    """

    chain: str
    number: int = 0
    sealed: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    whole: int = 0
    ended: bool = True
    _line: int = 0
    _torn: str = ""

    def next_line(self, values: dict[str, Any]) -> str:
        """The line that comes next, as it is written; from then on it is the last one."""
        self.number, self.sealed = self.number + 1, True
        body = json.dumps({"number": self.number, **values})
        self.chain = _checksum(self.chain, body.encode())
        return f'{body[:-1]}, "checksum": "{self.chain}"}}\n'

    def take(self, line: bytes) -> None:
        """The next line as it is in the file."""
        self._line += 1
        seals = list(SEAL.finditer(line))
        whole = bool(seals) and seals[-1].end() == len(line)
        may_be_torn = not self.sealed and not seals
        record, problem = self._sealed(line, seals[-1]) if whole else self._unsealed(line)
        if self._torn and not (record and record["event"] in AFTER_TORN):
            self.problems.append((self._line - 1, self._torn))
        self._torn = problem if may_be_torn else ""
        if problem and not may_be_torn:
            self.problems.append((self._line, problem))
        if not problem and record:
            self.records.append(record)

    def _sealed(self, line: bytes, seal: re.Match[bytes]) -> tuple[dict[str, Any] | None, str]:
        body, stored = line[:seal.start()] + b"}", seal[1].decode()
        record, expected, before = _record(body), _checksum(self.chain, body), self.number
        number = record.get("number") if record else None
        # What follows is judged by what this line says of itself.
        self.chain, self.sealed = stored, True
        self.number = number if isinstance(number, int) else before + 1
        if isinstance(number, int) and number != before + 1:
            return None, f"record {number} follows on record {before}: a line was removed, repeated, moved or changed"
        if stored != expected or record is None:
            return None, "its checksum does not fit: it was changed, or the line before it"
        return record, ""

    def _unsealed(self, line: bytes) -> tuple[dict[str, Any] | None, str]:
        record, after_sealed = _record(line), self.sealed
        self.number, self.chain = self.number + 1, _checksum(self.chain, line)
        if record is None or "number" in record or after_sealed:
            return None, "it is no record with a checksum" if after_sealed else "it is no record"
        return record, ""

    def end(self, tail: bytes) -> None:
        """What follows the last line break: a whole record that lacks its own, or what was cut short."""
        torn = not SEAL.search(tail) and (self.sealed or _record(tail) is None)
        if tail and not torn:
            self.take(tail)
            self.whole, self.ended = self.whole + len(tail), False
        elif self._torn and not tail:
            self.problems.append((self._line, self._torn))


def parse_lines(data: bytes, subject: str) -> Lines:
    """The lines of a journal."""
    *lines, tail = data.split(b"\n")
    found = Lines(_checksum("", subject.encode()), whole=len(data) - len(tail))
    for line in lines:
        found.take(line)
    found.end(tail)
    return found


def _checksum(chain: str, body: bytes) -> str:
    return hashlib.sha256(chain.encode() + body).hexdigest()[:16]


def _record(text: bytes) -> dict[str, Any] | None:
    try:
        value = parse_json(text.decode())
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None
