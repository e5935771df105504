"""vmtool that sends itself a signal at a point of its journal.

    python killed.py SIGNAL MOMENT RECORD ARGUMENTS...      vmtool ARGUMENTS, signalled before or after a record
    python killed.py record FILE ARGUMENTS...               vmtool ARGUMENTS; FILE gets a line for each record

RECORD is a text: of the lines of all records, ended by a newline, the first one that has it (see `Names`).

The lab's guests get this file as well, so it needs nothing but vmtool.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

from vmtool.cli.main import run_command
from vmtool.engine import hooks
from vmtool.engine.hooks import Event


class Names:
    """A line for each record that is the same in every run, and no two alike: `plan SUBJECT`, `step TITLE`,
    `begin SHELL` and `end SHELL` (of an action, which lies between them), `applied`; of an undo `failed`, `undone`,
    `undone (2)` and so on, and `clean`."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def name(self, event: str, text: str = "") -> str:
        line = f"{event} {text}".strip().replace("\n", " ")
        self.seen[line] += 1
        return (line if self.seen[line] == 1 else f"{line} ({self.seen[line]})") + "\n"


class Watcher:
    """An observer that looks at the records' lines."""

    def __init__(self) -> None:
        self.names, self.shell, self.line = Names(), "", ""

    def __call__(self, event: Event) -> None:
        if event.moment == "before":
            self.shell = event.values.get("shell", self.shell)
            text = {"plan": event.values.get("subject"), "step": event.values.get("title"), "begin": self.shell,
                    "end": self.shell}.get(event.name)
            self.line = self.names.name(event.name, text or "")
        self.see(event.moment)

    def see(self, moment: str) -> None:
        raise NotImplementedError


class Signaller(Watcher):
    """Sends vmtool the signal, once."""

    def __init__(self, number: int, moment: str, record: str) -> None:
        super().__init__()
        self.number, self.moment, self.record, self.sent = number, moment, record, False

    def see(self, moment: str) -> None:
        if self.record in self.line and moment == self.moment and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


class Recorder(Watcher):
    """Writes down each record, once it is durable."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def see(self, moment: str) -> None:
        if moment == "after":
            with self.path.open("a") as file:
                file.write(self.line)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        hooks.observers = (Recorder(Path(sys.argv[2])),)
        del sys.argv[1:3]
    else:
        hooks.observers = (Signaller(signal.Signals[sys.argv[1]], *sys.argv[2:4]),)
        del sys.argv[1:4]
    run_command()  # not `main`, which would start the vmtool without this watcher
