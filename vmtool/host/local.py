"""The real machine behind `vmtool.machine.Reader` and `vmtool.machine.Host`."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vmtool.errors import ProgramFailed, ProgramMissing, Refused, VmtoolError
from vmtool.foreign import open_file, read_regular
from vmtool.host import daemons, files, processes
from vmtool.machine import Channel, DeviceWrite, FilePiece, Output, Pairs, RunningWrites, Trust

if TYPE_CHECKING:
    import socket

    from vmtool.host.beside import Beside

LIMIT = 4 << 20
PIECE = 64 << 10
TAIL = 64 << 10
# Of a file that an action reads whole.
LARGEST = 64 << 20


class LocalMachine:
    """This machine, read-only."""

    _beside: Beside | None = None

    def text(self, path: str) -> str | None:
        try:
            with open_file(path) as file:
                # In pieces: of /proc/sys the kernel refuses to read 4 MiB at once (ENOMEM).
                text = b""
                while len(text) < LIMIT and (piece := file.read1(PIECE)):
                    text += piece
                return text[:LIMIT].decode(errors="replace")
        except (OSError, Refused):
            return None

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return FilePiece(status.st_size, b"")
        try:
            # O_NONBLOCK: somebody may have put a pipe into its place meanwhile.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return FilePiece(status.st_size, os.pread(descriptor, size, start))
            finally:
                os.close(descriptor)
        except OSError:
            return FilePiece(status.st_size, b"")

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        from vmtool.host.guarded_reads import read_with_deadline  # few need it

        return read_with_deadline(paths, self.text, deadline)

    def busy(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, bool]:
        from vmtool.host.guarded_reads import is_busy, read_with_deadline

        return {node: bool(answer) for node, answer in read_with_deadline(nodes, is_busy, deadline).items()}

    def open_vfio(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, str]:
        from vmtool.host.guarded_reads import read_with_deadline
        from vmtool.host.vfio_open import open_as_machine

        return {node: answer or "" for node, answer in read_with_deadline(nodes, open_as_machine, deadline).items()}

    def names(self, path: str) -> tuple[str, ...]:
        try:
            return files.names(path)
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
            found = self._beside.output(argv, deadline) if self._beside else None
            return found or processes.run(argv, deadline=deadline)
        except (ProgramMissing, ProgramFailed):
            return None

    @contextlib.contextmanager
    def beside(self, programs: Sequence[tuple[str, ...]]) -> Iterator[None]:
        from vmtool.host.beside import Beside  # few need it

        outer = self._beside
        try:
            with Beside(programs, outer) as self._beside:
                yield
        finally:
            self._beside = outer

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        from vmtool.host import udev  # few need it

        return udev.properties(path, deadline)


class LocalHost(LocalMachine):
    """This machine, to be changed.

    Args:
        log: receives every command line with its output; None for nobody.
        note: receives what whoever waits may want to know.
    """

    def __init__(self, log: IO[str] | None = None, note: Callable[[str], None] = lambda text: None) -> None:
        self._log, self._note = log, note

    def execute(self, argv: Sequence[str], *, deadline: float, env: Pairs = (), stdin: Path | bytes | None = None,
                stdout: Path | None = None) -> Output:
        return processes.run(argv, deadline=deadline, env=env, stdin=stdin, stdout=stdout, log=self._log)

    def work(self, argv: Sequence[str], stdin: bytes, *, deadline: float, env: Pairs = ()) -> tuple[Output, bytes]:
        return processes.run_reporting(argv, stdin, deadline=deadline, env=env, log=self._log)

    def read(self, path: Path) -> bytes:
        data = read_regular(path, LARGEST + 1)
        if len(data) > LARGEST:
            raise VmtoolError(f"{path} is larger than {LARGEST >> 20} MiB")
        return data

    def tail(self, path: Path, lines: int = 12) -> list[str]:
        try:
            with open_file(path) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                return file.read(TAIL).decode(errors="replace").splitlines()[-lines:]
        except (OSError, Refused):
            return []

    def write(self, path: Path, data: bytes | str, *, mode: int = 0o600, uid: int | None = None) -> None:
        files.write(path, data, mode=mode, uid=uid)

    def make_dir(self, path: Path, *, mode: int = 0o700, uid: int = 0) -> None:
        files.make_dir(path, mode=mode, uid=uid)

    def remove(self, path: Path) -> None:
        files.remove(path)

    def living(self, pidfile: Path) -> int | None:
        return daemons.living(pidfile)

    def start_daemon(self, argv: Sequence[str], pidfile: Path, log: Path) -> None:
        daemons.start(argv, pidfile, log)

    def start_time(self, pid: int) -> str | None:
        return processes.start_time(pid)

    def kill(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.Signals(number))

    def accepts(self, socket: Path) -> bool:
        try:
            with self.connect(socket):
                return True
        except OSError:
            return False

    def connect(self, socket: Path) -> Channel:
        return _connected(socket)

    def request(self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None,
                deadline: float, trust: Trust | None = None) -> tuple[int, str]:
        from vmtool.host import http  # few need it

        return http.request(method, url, headers, body, deadline, trust)

    def shown_certificate(self, host: str, port: int, *, deadline: float) -> bytes:
        from vmtool.host import http

        return http.shown_certificate(host, port, deadline)

    def stream(self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None,
               deadline: float, trust: Trust | None = None
               ) -> contextlib.AbstractContextManager[tuple[int, Iterator[str]]]:
        from vmtool.host import http

        return http.stream(method, url, headers, body, deadline, trust)

    def start_writes(self, writes: Sequence[DeviceWrite]) -> RunningWrites:
        from vmtool.host.device_writes import DeviceWriteProcess

        return DeviceWriteProcess(writes)

    def ended(self, running: Sequence[RunningWrites], seconds: float) -> list[RunningWrites]:
        from vmtool.host.device_writes import readable

        return readable(running, seconds)

    def await_node(self, path: str, deadline: float) -> bool:
        from vmtool.host import udev

        return udev.await_node(path, deadline)

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def log(self, text: str) -> None:
        if self._log:
            self._log.write(text)
            self._log.flush()

    def note(self, text: str) -> None:
        self._note(text)


def _connected(path: Path) -> socket.socket:
    import socket  # few need it

    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        raise
    return client
