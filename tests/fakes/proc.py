"""A machine that is a /proc of a few processes."""

from __future__ import annotations

from collections.abc import Mapping

from vmtool.machine import FilePiece, Output


class Proc:
    """A /proc of a few processes: pid -> (program, arguments); and some files and links."""

    def __init__(self, processes: dict[int, tuple[str, list[str]]], texts: dict[str, str] | None = None,
                 links: dict[str, str] | None = None) -> None:
        self.processes, self.texts, self.links = processes, texts or {}, links or {}

    def text(self, path: str) -> str | None:
        if path in self.texts:
            return self.texts[path]
        words = path.split("/")
        found = self.processes.get(int(words[2])) if words[1] == "proc" and words[2].isdecimal() else None
        if found and words[3] == "status":
            return "PPid:\t1\nUid:\t0\t0\t0\t0\n"
        return "\0".join(found[1]) + "\0" if found and words[3] == "cmdline" else None

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

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        return {}


class Container(Proc):
    """Answers `grep`, `nvidia-smi -L` and `nvidia-smi conf-compute -f`."""

    def __init__(self, said: dict[str, str] | None = None, listed: Output | None = None, mode: Output | None = None,
                 ) -> None:
        super().__init__({})
        lines = [f"{path}:{line}" for path, text in (said or {}).items() for line in text.split("\n")]
        grep = Output(2, "\n".join(lines), "grep: /proc/driver/nvidia/version: No such file or directory")
        self.answers = {"grep": grep if said else None, "-L": listed, "-f": mode}
        self.asked: list[tuple[str, ...]] = []

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        self.asked.append(argv)
        words = argv[argv.index("chat") + 1:]
        return self.answers["grep" if words[0] == "grep" else words[-1]]
