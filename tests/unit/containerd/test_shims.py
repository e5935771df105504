"""A task is gone when its shim is: containerd may still be making it when it is first asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from vmtool.containerd.actions import DeleteTask
from vmtool.errors import ProgramFailed, VmtoolError
from vmtool.machine import Output

TASK = DeleteTask(Path("/run/c.sock"), "vmtool", "chat")
SHIM = "/usr/bin/containerd-shim-runc-v2 -namespace vmtool -id chat -address /run/c.sock"
NOT_FOUND = Output(1, "", "ctr: task chat: not found")


@dataclass
class Containerd(FakeHost):
    """One that answers `task delete` in turn, with a shim that ends after a number of looks, or when it is killed."""

    answers: list[Output]
    looks: int = 0
    mortal: bool = True
    user: int = 0
    numbers: str = "7"
    asked: int = 0
    killed: list[int] = field(default_factory=list)
    clock: float = 0.0

    def execute(self, argv: Sequence[str], **options: Any) -> Output:
        assert argv[-3:] == ("delete", "--force", "chat")
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]

    def kill(self, pid: int, number: int) -> None:
        self.killed.append(pid)
        if self.mortal:
            self.looks = 0

    def names(self, path: str) -> tuple[str, ...]:
        self.looks -= 1
        return ("7", "self", "8") if self.looks >= 0 else ("8",)

    def text(self, path: str) -> str:
        if path.endswith("/status"):
            return f"Uid:\t{self.user}\t{self.user}\t{self.user}\t{self.user}\nNSpid:\t{self.numbers}\n"
        return {"/proc/7/cmdline": SHIM, "/proc/8/cmdline": "containerd"}[path].replace(" ", "\0") + "\0"


@pytest.mark.parametrize("answers", [[Output(0, "", "")], [NOT_FOUND]])
def test_a_task_that_goes_or_is_not_there(answers: list[Output]) -> None:
    containerd = Containerd(answers)
    TASK.do(containerd)
    assert (containerd.asked, containerd.killed) == (1, [])


def test_a_task_that_is_just_being_made_is_asked_for_again() -> None:
    containerd = Containerd([NOT_FOUND, NOT_FOUND, Output(0, "", ""), NOT_FOUND], looks=3)
    TASK.do(containerd)
    assert (containerd.asked, containerd.killed) == (4, [])


def test_a_shim_that_containerd_forgot_is_killed() -> None:
    containerd = Containerd([NOT_FOUND], looks=10_000)
    TASK.do(containerd)
    assert containerd.killed == [7]
    assert containerd.clock > TASK.deadline / 3


def test_a_shim_that_stays_is_told() -> None:
    with pytest.raises(VmtoolError, match=r"the shim \(pid 7\) of chat does not end"):
        TASK.do(Containerd([NOT_FOUND], looks=10_000, mortal=False))


def test_another_failure_is_one() -> None:
    with pytest.raises(ProgramFailed, match="exit status 1"):
        TASK.do(Containerd([Output(1, "", "connection refused")]))


@pytest.mark.parametrize(("old", "new"), [
    ("-id chat", "-id chat2"), ("-namespace vmtool", "-namespace k8s.io"), ("/run/c.sock", "/run/d.sock"),
    ("containerd-shim-runc-v2", "containerd")])
def test_other_processes_are_nobodys_shims(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    containerd = Containerd([NOT_FOUND], looks=9)
    assert TASK.shims(containerd) == [7]
    monkeypatch.setitem(globals(), "SHIM", SHIM.replace(old, new))
    assert TASK.shims(containerd) == []


def test_a_process_of_another_user_is_no_shim() -> None:
    """It would hold up the undo, and be killed by root in the end."""
    assert TASK.shims(Containerd([NOT_FOUND], looks=9, user=1000)) == []


def test_a_process_in_a_container_is_no_shim_of_this_hosts() -> None:
    """Another vmtool may have a container of that name there, with the same paths."""
    assert TASK.shims(Containerd([NOT_FOUND], looks=9, numbers="7\t3")) == []
