"""How a program's end is told, as a sentence and as data."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any, cast

import pytest

from vmtool.errors import ProgramFailed
from vmtool.host import processes
from vmtool.machine import Output, check

TERM, KILL = signal.SIGTERM, signal.SIGKILL


class Child:
    """A leader of a process group that does not end in time.

    Args:
        ends: the signal at which it ends.
    """

    pid = 7

    def __init__(self, ends: int) -> None:
        self.ends, self.sent = ends, list[int]()

    def communicate(self, stdin: bytes | None, timeout: float) -> Any:
        raise subprocess.TimeoutExpired("a", timeout)

    def signalled(self, group: int, number: int) -> None:
        self.sent.append(number)

    def wait(self, timeout: float) -> None:
        if self.ends not in self.sent:
            raise subprocess.TimeoutExpired("a", timeout)

    def poll(self) -> int:
        return 0


@pytest.mark.parametrize(("status", "how"), [
    (1, "exit status 1"), (-9, "died of SIGKILL"), (127, "exit status 127 (a program that it calls is missing)")])
def test_how_it_ended_is_known_without_its_words(status: int, how: str) -> None:
    argv = ("qemu", "-append", "a: b", "-x", "y", "z", "more")
    with pytest.raises(ProgramFailed) as error:
        check(argv, Output(status, "out\n\n", "err\n"), "look")
    assert error.value.how == how
    assert error.value.message == f"qemu -append 'a: b' -x y z ...: {how}"
    assert (error.value.details, error.value.hint) == (("out", "err"), "look")
    check(argv, Output(0, "", ""))


@pytest.mark.parametrize("text", [
    "mkdir: cannot create directory 'x': No space left on device", "write /x: no space left on device: unknown",
    "write error: Disk quota exceeded"])
def test_a_full_disk_is_named_and_a_hint_of_the_caller_stays(text: str) -> None:
    with pytest.raises(ProgramFailed) as error:
        check(("ctr",), Output(1, "", text))
    assert error.value.message == "ctr: exit status 1, since a disk is full"
    assert error.value.hint == "make room: df -h"
    with pytest.raises(ProgramFailed) as error:
        check(("ctr",), Output(1, text, ""), "df -h /var/lib")
    assert error.value.hint == "df -h /var/lib"
    check(("ctr",), Output(0, text, ""))


@pytest.mark.parametrize("ends", [TERM, KILL])
@pytest.mark.parametrize(("deadline", "words"), [(0.3, "0.3 s"), (600.0, "600 s")])
def test_what_takes_too_long_is_killed_with_all_of_its_group(monkeypatch: pytest.MonkeyPatch, ends: int,
                                                             deadline: float, words: str) -> None:
    """Its leader may end at once, before what it started and what does not listen to SIGTERM."""
    child = Child(ends)
    monkeypatch.setattr(os, "killpg", child.signalled)
    with pytest.raises(ProgramFailed) as error:
        processes.finish(cast(processes.Child, child), ("a",), deadline)
    assert (child.sent, error.value.message) == ([TERM, KILL], f"a: no end after {words}")


@pytest.mark.parametrize("why", [ProcessLookupError, PermissionError])
def test_a_group_that_is_gone_or_another_users_is_no_error(monkeypatch: pytest.MonkeyPatch,
                                                           why: type[OSError]) -> None:
    def refused(group: int, number: int) -> None:
        raise why

    monkeypatch.setattr(os, "killpg", refused)
    processes.end_group(cast(processes.Child, Child(TERM)))
