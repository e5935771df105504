"""What a machine answered while claims were made, kept so that another machine can make the same claims again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from vmtool.attest.appraisal import NotProven
from vmtool.facts.recording import command_line
from vmtool.foreign import parse_json
from vmtool.machine import FilePiece, Output, Reader

T = TypeVar("T")
STATUS = re.compile(r"/proc/\d+/status")
# Of /proc/PID/status what does not change while a process does nothing else than before.
LASTING = re.compile(r"(Name|Pid|PPid|Uid|Gid|NSpid|Cap\w+|NoNewPrivs|Seccomp\w*):")
# By these a process is only recognised, or found to be another.
RECOGNISED = re.compile(r"/proc/\d+/(task|(task/\d+/)?(cmdline|exe|stat))")
EXEC_ID = re.compile(r"--exec-id \S+")
PROCESS = re.compile(r"/proc/(\d+)(/|$)")


class ObservingReader:
    """A `vmtool.machine.Reader` in front of another, which asks each thing once."""

    def __init__(self, machine: Reader) -> None:
        self.machine = machine
        self.answers: dict[tuple[str, ...], Any] = {}

    def _once(self, key: tuple[str, ...], ask: Callable[[], T]) -> T:
        if key not in self.answers:
            self.answers[key] = ask()
        found: T = self.answers[key]
        return found

    def text(self, path: str) -> str | None:
        return self._once(("text", path), lambda: lasting(path, self.machine.text(path)))

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        return self._once(("piece", path, str(start), str(size)), partial(self.machine.piece, path, start, size))

    def names(self, path: str) -> tuple[str, ...]:
        return self._once(("names", path), partial(self.machine.names, path))

    def link(self, path: str) -> str | None:
        return self._once(("link", path), partial(self.machine.link, path))

    def exists(self, path: str) -> bool:
        return self._once(("exists", path), partial(self.machine.exists, path))

    def which(self, program: str) -> str | None:
        return self._once(("which", program), partial(self.machine.which, program))

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return self._once(("run", question(argv)), partial(self.machine.run, argv, deadline))

    def answered(self, argv: tuple[str, ...]) -> Output | None:
        """What a program has answered; None when it was not asked, or did not."""
        found: Output | None = self.answers.get(("run", question(argv)))
        return found

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        return self._once(("udev", path), lambda: dict(self.machine.udev(path, deadline)))


def lasting(path: str, text: str | None) -> str | None:
    """The text, without what changes from one moment to the next: the same look gives the same bundle."""
    if text is None or not STATUS.fullmatch(path):
        return text
    return "".join(line for line in text.splitlines(keepends=True) if LASTING.match(line))


def question(argv: tuple[str, ...]) -> str:
    """What a program is asked, without the number of the process that asks."""
    return EXEC_ID.sub("--exec-id ID", command_line(argv))


def observed_text(answers: Mapping[tuple[str, ...], Any], files: Mapping[str, bytes]) -> str:
    """The answers as a member, without those that others are: the files, and processes that were only passed by.

    Args:
        files: members by the path that they were read from.
    """
    passed = _passed(answers)
    kept = []
    for key, found in sorted(answers.items()):
        process = PROCESS.match(key[1]) if len(key) > 1 else None
        if (process and process[1] in passed) or (key[0] == "text" and key[1] in files):
            continue
        if key == ("names", "/proc"):
            found = tuple(name for name in found if name.isdecimal() and name not in passed)
        kept.append({"asked": list(key), "found": _plain(found)})
    return json.dumps(kept, indent=1, sort_keys=True) + "\n"


def _passed(answers: Mapping[tuple[str, ...], Any]) -> set[str]:
    """Processes of which no more was read than what they are called: other people's."""
    listed = {name for name in answers.get(("names", "/proc"), ()) if name.isdecimal()}
    looked_at = {found[1] for _, *words in answers for word in words[:1]
                 if (found := PROCESS.match(word)) and not RECOGNISED.fullmatch(word)}
    return listed - looked_at


def _plain(found: Any) -> Any:
    match found:
        case Output():
            return [found.status, found.out, found.err]
        case FilePiece():
            return [found.size, found.data.hex()]
        case tuple():
            return list(found)
    return found


class ReplayingReader:
    """A `vmtool.machine.Reader` of a machine of which only the answers are left.

    Args:
        files: members by the path that they were read from.

    Raises:
        NotProven: what is asked was not asked then.
    """

    def __init__(self, text: bytes, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.answers = {tuple(each["asked"]): each["found"] for each in parse_json(text)}

    def _answer(self, *key: str) -> Any:
        if key not in self.answers:
            raise NotProven(f"nothing was observed of {' '.join(key)[:200]}")
        return self.answers[key]

    def text(self, path: str) -> str | None:
        if path in self.files:
            return self.files[path].decode(errors="replace")
        found = self._answer("text", path)
        return None if found is None else str(found)

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        found = self._answer("piece", path, str(start), str(size))
        return None if found is None else FilePiece(int(found[0]), bytes.fromhex(found[1]))

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(map(str, self._answer("names", path)))

    def link(self, path: str) -> str | None:
        found = self._answer("link", path)
        return None if found is None else str(found)

    def exists(self, path: str) -> bool:
        return self._answer("exists", path) is True

    def which(self, program: str) -> str | None:
        found = self._answer("which", program)
        return None if found is None else str(found)

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        found = self._answer("run", question(argv))
        return None if found is None else Output(int(found[0]), str(found[1]), str(found[2]))

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        return {str(name): str(value) for name, value in self._answer("udev", path).items()}
