"""A machine that is a /proc of a few processes."""

from __future__ import annotations

from vmtool.machine import FilePiece, Output


class Proc:
    """A /proc of a few processes: pid -> (program, arguments); and some files and links."""

    def __init__(self, processes: dict[int, tuple[str, list[str]]], texts: dict[str, str] | None = None,
                 links: dict[str, str] | None = None) -> None:
        self.processes, self.texts, self.links = processes, texts or {}, links or {}

    def text(self, path: str) -> str | None:
        found = self.processes.get(int(path.split("/")[2])) if path.endswith("/cmdline") else None
        return "\0".join(found[1]) + "\0" if found else self.texts.get(path)

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        return None

    def names(self, path: str) -> tuple[str, ...]:
        return ("self", *map(str, self.processes)) if path == "/proc" else ()

    def link(self, path: str) -> str | None:
        found = self.processes.get(int(path.split("/")[2])) if path.endswith("/exe") else None
        return found[0] or None if found else self.links.get(path)

    def exists(self, path: str) -> bool:
        return False

    def which(self, program: str) -> str | None:
        return None

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return None
