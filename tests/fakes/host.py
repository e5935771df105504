"""A host for unit tests: real files in the test's own directory, everything else as the test says, and no time lost."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vmtool.engine.worker import do_order
from vmtool.errors import VmtoolError
from vmtool.host.local import LocalHost
from vmtool.machine import Channel, DeviceWrite, FilePiece, Output, Pairs, Reader, RunningWrites, Trust
from vmtool.plan.error_report import encode_error


class FakeHost(LocalHost):
    """A `vmtool.machine.Host` whose files are real.

    Args:
        reader: what is read of the machine where a test has no real file; None for nothing.

    Attributes:
        clock: seconds that have passed: only `sleep` lets them.
        alive: start time by pid of the processes that live; a signal is noted in `signals` and ends them unless
            `stubborn`.
        output: what the actions logged.
    """

    def __init__(self, reader: Reader | None = None) -> None:
        self.output = io.StringIO()
        self.notes: list[str] = []
        super().__init__(self.output, self.notes.append)
        self.reader = reader
        self.clock = 0.0
        self.alive: dict[int, str] = {}
        self.signals: list[tuple[int, int]] = []
        self.stubborn = False

    def text(self, path: str) -> str | None:
        found = self.reader.text(path) if self.reader else None
        return found if found is not None or path.startswith(("/proc/", "/sys/")) else super().text(path)

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        found = self.reader.piece(path, start, size) if self.reader else None
        return found if found is not None or path.startswith(("/proc/", "/sys/")) else super().piece(path, start, size)

    def names(self, path: str) -> tuple[str, ...]:
        found = self.reader.names(path) if self.reader else ()
        return found if found or path.startswith(("/proc", "/sys")) else super().names(path)

    def link(self, path: str) -> str | None:
        return self.reader.link(path) if self.reader else None

    def exists(self, path: str) -> bool:
        known = bool(self.reader and self.reader.exists(path))
        return known or (not path.startswith(("/proc", "/sys")) and super().exists(path))

    def which(self, program: str) -> str | None:
        return self.reader.which(program) if self.reader else None

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return self.reader.run(argv, deadline) if self.reader else None

    @contextlib.contextmanager
    def beside(self, programs: Sequence[tuple[str, ...]]) -> Iterator[None]:
        yield

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        return self.reader.udev(path, deadline) if self.reader else {}

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        return {path: self.text(path) for path in paths}

    def busy(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, bool]:
        return dict.fromkeys(nodes, False)

    def open_vfio(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, str]:
        return dict.fromkeys(nodes, "")

    def execute(self, argv: Sequence[str], *, deadline: float, env: Pairs = (), stdin: Path | bytes | None = None,
                stdout: Path | None = None) -> Output:
        raise AssertionError(f"this host has no programs: {argv}")

    def work(self, argv: Sequence[str], stdin: bytes, *, deadline: float, env: Pairs = ()) -> tuple[Output, bytes]:
        """The worker does its order in this process, on this host."""
        name, output = argv[-2], io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                do_order(name, stdin.decode(), self)
        except VmtoolError as error:
            return Output(error.code, output.getvalue(), ""), encode_error(error)
        return Output(0, output.getvalue(), ""), b""

    def living(self, pidfile: Path) -> int | None:
        """By the first word of the file."""
        words = (super().text(str(pidfile)) or "").split()
        return int(words[0]) if words and int(words[0]) in self.alive else None

    def start_daemon(self, argv: Sequence[str], pidfile: Path, log: Path) -> None:
        raise AssertionError(f"this host has no daemons: {argv}")

    def start_time(self, pid: int) -> str | None:
        return self.alive.get(pid)

    def kill(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))
        if not self.stubborn:
            self.alive.pop(pid, None)

    def accepts(self, socket: Path) -> bool:
        return False

    def connect(self, socket: Path) -> Channel:
        raise FileNotFoundError(2, "No such file or directory", str(socket))

    def request(self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None,
                deadline: float, trust: Trust | None = None) -> tuple[int, str]:
        return 0, "connection refused"

    def shown_certificate(self, host: str, port: int, *, deadline: float) -> bytes:
        return b""

    def stream(self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None,
               deadline: float, trust: Trust | None = None
               ) -> contextlib.AbstractContextManager[tuple[int, Iterator[str]]]:
        raise ConnectionRefusedError(111, "Connection refused")

    def start_writes(self, writes: Sequence[DeviceWrite]) -> RunningWrites:
        raise AssertionError(f"this host has no devices: {writes}")

    def ended(self, running: Sequence[RunningWrites], seconds: float) -> list[RunningWrites]:
        return []

    def await_node(self, path: str, deadline: float) -> bool:
        end = self.clock + deadline
        while not self.exists(path) and self.clock < end:
            self.sleep(0.1)
        return self.exists(path)

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
