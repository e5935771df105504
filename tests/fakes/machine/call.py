"""A call of a program: what its fake gets, and what it answers."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmtool.machine import Output

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine


@dataclass(frozen=True)
class Call:
    """A program's arguments, additions to its environment and standard input.

    Args:
        program: as it was called, with its path if one was given.
    """

    machine: FakeMachine
    program: str
    words: tuple[str, ...]
    env: Mapping[str, str]
    stdin: bytes

    @property
    def name(self) -> str:
        return posixpath.basename(self.program)

    @property
    def order(self) -> dict[str, Any]:
        """Of a worker, what it is to do."""
        found: dict[str, Any] = json.loads(self.stdin)
        return found

    def options(self) -> tuple[dict[str, str], list[str]]:
        """Long options with a value behind "=" or none, and the other words."""
        long = [word for word in self.words if word.startswith("-") and word != "-"]
        return {word.partition("=")[0]: word.partition("=")[2] for word in long}, [
            word for word in self.words if word not in long]

    def value(self, option: str) -> str:
        """The word behind an option; empty when it is not there."""
        return self.words[self.words.index(option) + 1] if option in self.words else ""


Program = Callable[[Call], Output]


def done(text: str = "") -> Output:
    """It ended well."""
    return Output(0, text, "")


def failed(text: str, status: int = 1) -> Output:
    """It did not, and says why on standard error."""
    return Output(status, "", f"{text}\n")
