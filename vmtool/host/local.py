"""The real machine behind `vmtool.machine.Reader`."""

from __future__ import annotations

import os

from vmtool.errors import ProgramFailed, ProgramMissing
from vmtool.host import processes
from vmtool.machine import Output

LIMIT = 4 << 20
PIECE = 64 << 10


class Machine:
    """This machine, read-only."""

    def text(self, path: str) -> str | None:
        try:
            with open(path, "rb", buffering=0) as file:
                # In pieces: of /proc/sys the kernel refuses to read 4 MiB at once (ENOMEM).
                text = b""
                while len(text) < LIMIT and (piece := file.read(PIECE)):
                    text += piece
                return text[:LIMIT].decode(errors="replace")
        except OSError:
            return None

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        from vmtool.host.guarded_reads import read_guarded  # few need it

        return read_guarded(paths, self.text, deadline)

    def names(self, path: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(path)))
        except OSError:
            return ()

    def link(self, path: str) -> str | None:
        try:
            return os.readlink(path)
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def which(self, program: str) -> str | None:
        return processes.which(program)

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        try:
            return processes.run(argv, deadline=deadline)
        except (ProgramMissing, ProgramFailed):
            return None
