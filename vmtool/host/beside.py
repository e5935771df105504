"""Programs that run beside each other, so that a look at the whole machine does not wait for one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from vmtool.errors import ProgramMissing
from vmtool.host import processes
from vmtool.machine import Output

Argv = tuple[str, ...]


class Beside:
    """Programs that are started at once; what nobody asked for until the end of the block is ended there."""

    def __init__(self, programs: Sequence[Argv]) -> None:
        self.running: dict[Argv, processes.Child] = {}
        self.programs = programs

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.push(self)
            for argv in dict.fromkeys(self.programs):
                with contextlib.suppress(ProgramMissing):
                    self.running[argv] = processes.start_question(argv)
            stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        for child in self.running.values():
            processes.end_group(child)
            for stream in (child.stdout, child.stderr):
                if stream:
                    stream.close()
        self.running.clear()

    def output(self, argv: Argv, deadline: float) -> Output | None:
        """What a program printed; None when it is none of these, or was asked for before.

        Raises:
            ProgramFailed: it does not end within `deadline` seconds from now.
        """
        child = self.running.pop(argv, None)
        return processes.finish(child, argv, deadline) if child else None
