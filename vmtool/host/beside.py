"""Programs that run beside each other, so that a look at the whole machine does not wait for one after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from subprocess import DEVNULL
from types import TracebackType
from typing import IO, Self

from vmtool.errors import ProgramMissing
from vmtool.frozen import dataclass
from vmtool.host import processes
from vmtool.machine import Output

Argv = tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """A program, and what it has printed so far: files without a name, so that it never waits for a reader, who might
    be waiting for another that waits for what this one holds (xtables' lock)."""

    child: processes.Child
    out: IO[bytes]
    err: IO[bytes]

    def end(self, argv: Argv, deadline: float) -> Output:
        """Wait for its end; see `processes.finish`."""
        status = processes.finish(self.child, argv, deadline).status
        out, err = (os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")
                    for file in (self.out, self.err))
        return Output(status, out, err)

    def close(self) -> None:
        """Nobody wants to know."""
        processes.end_group(self.child)
        self.out.close()
        self.err.close()


class Beside:
    """Programs that are started at once; what nobody asked for until the end of the block is ended there.

    Args:
        outer: the block that this one is in; what runs there already is not started twice.
    """

    def __init__(self, programs: Sequence[Argv], outer: Beside | None = None) -> None:
        self.running: dict[Argv, Running] = {}
        self.outer = outer
        self.programs = [argv for argv in dict.fromkeys(programs) if not (outer and outer.is_running(argv))]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.push(self)
            for argv in self.programs:
                with contextlib.suppress(ProgramMissing):
                    self.running[argv] = _started(argv)
            stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        for program in self.running.values():
            program.close()
        self.running.clear()

    def is_running(self, argv: Argv) -> bool:
        """Whether it was started, here or further out, and nobody has asked for it."""
        return argv in self.running or bool(self.outer and self.outer.is_running(argv))

    def output(self, argv: Argv, deadline: float) -> Output | None:
        """What a program printed; None when it is none of these, or was asked for before.

        Raises:
            ProgramFailed: it does not end within `deadline` seconds from now.
        """
        program = self.running.pop(argv, None)
        if program is None:
            return self.outer.output(argv, deadline) if self.outer else None
        with contextlib.closing(program):
            return program.end(argv, deadline)


def _started(argv: Argv) -> Running:
    with contextlib.ExitStack() as files:
        out, err = (files.enter_context(os.fdopen(os.memfd_create("vmtool-answer"), "w+b")) for _ in range(2))
        program = Running(processes.start(argv, DEVNULL, out, err), out, err)
        files.pop_all()
    return program
