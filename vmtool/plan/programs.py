"""Actions that run a program."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.errors import VerificationFailed
from vmtool.frozen import dataclass
from vmtool.machine import Pairs, check
from vmtool.plan.action import Action

if TYPE_CHECKING:
    from vmtool.machine import Host


def private_file(path: Path) -> str:
    """The start of a shell line that writes to a file, which only its owner may read if it is new."""
    return f"(umask 077; : >> {shlex.quote(str(path))});"


@dataclass(frozen=True)
class Run(Action):
    """Run a program to its end.

    Args:
        argv: the program and its arguments; never a shell string.
        env: additions to the small fixed environment that every child gets.
        stdin, stdout: files to read from and to write to (mode 0600), instead of /dev/null and the log.
        deadline: seconds until the program's process group is terminated.
        absent_messages: pieces of the program's output that mean "there is nothing to undo": then a failure is none.
        hint: what helps a person when it fails.
    """

    argv: tuple[str, ...]
    env: Pairs = ()
    stdin: Path | None = None
    stdout: Path | None = None
    deadline: float = 60.0
    absent_messages: tuple[str, ...] = ()
    hint: str = ""

    def shell(self) -> str:
        words = [f"{name}={shlex.quote(value)}" for name, value in self.env] + [shlex.join(self.argv)]
        words += [f"< {shlex.quote(str(self.stdin))}"] if self.stdin else []
        if self.stdout:
            words = [private_file(self.stdout), *words, f"> {shlex.quote(str(self.stdout))}"]
        line = " ".join(words)
        if not self.absent_messages:
            return line
        absent = " ".join(f"-e {shlex.quote(text)}" for text in self.absent_messages)
        return f'said=$({line} 2>&1) || printf "%s\\n" "$said" | grep -F {absent}'

    def do(self, host: Host) -> None:
        result = host.execute(self.argv, deadline=self.deadline, env=self.env, stdin=self.stdin, stdout=self.stdout)
        if not any(text in result.out + result.err for text in self.absent_messages):
            check(self.argv, result, self.hint)


@dataclass(frozen=True)
class RunEither(Action):
    """Run a program, and where it fails another one in its place; the fields are those of `Run`."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    env: Pairs = ()
    deadline: float = 60.0
    hint: str = ""

    def shell(self) -> str:
        return " || ".join(Run(argv, self.env).shell() for argv in (self.first, self.second))

    def do(self, host: Host) -> None:
        if host.execute(self.first, deadline=self.deadline, env=self.env).status:
            check(self.second, host.execute(self.second, deadline=self.deadline, env=self.env), self.hint)


@dataclass(frozen=True)
class Expect(Action):
    """Run a program and require that one line of its output equals `line`; `hint` helps when it does not."""

    argv: tuple[str, ...]
    line: str
    hint: str = ""
    deadline: float = 30.0

    def shell(self) -> str:
        return f'said=$({shlex.join(self.argv)}) && printf "%s\\n" "$said" | grep -Fx -- {shlex.quote(self.line)}'

    def do(self, host: Host) -> None:
        result = host.execute(self.argv, deadline=self.deadline)
        check(self.argv, result)
        if self.line not in result.out.splitlines():
            raise VerificationFailed(f"{' '.join(self.argv)}: the line {self.line!r} is missing", hint=self.hint)
