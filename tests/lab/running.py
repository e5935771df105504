"""A command under way in the guest, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.cache import LabError
from tests.lab.channel import Request
from vmtool.machine import Output


class DeadlinePassed(LabError):
    """A command did not end by its deadline; `output` is what it had written, `state` what it was doing."""

    def __init__(self, argv: Sequence[str], output: Output, state: Sequence[str]) -> None:
        super().__init__(f"{argv}: " + "; ".join(state))
        self.output, self.state = output, tuple(state)


@dataclass(frozen=True)
class Running:
    """A command that was started and not waited for."""

    argv: Sequence[str]
    pid: int
    request: Request

    def wait(self, deadline: float) -> Output:
        """Its output, when it ends within `deadline` seconds."""
        head, body = self.request.wait(deadline)
        output = Output(head["status"] if head["status"] is not None else -9,
                        body[:head["out"]].decode(errors="replace"), body[head["out"]:].decode(errors="replace"))
        if head.get("late"):
            raise DeadlinePassed(self.argv, output, head["late"])
        return output
