"""The one seam between vmtool and a machine: a Reader looks, a Host changes it as well.

The real ones are in `vmtool.host.local`; a recorded host, or one that reacts, replaces them in tests.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from vmtool.errors import ProgramFailed
from vmtool.frozen import dataclass

Pairs = tuple[tuple[str, str], ...]
# The environment variable that names a program's descriptor for a report, see `Host.work`.
REPORT = "VMTOOL_REPORT"


@dataclass(frozen=True)
class Output:
    """What a finished program left: exit status (negative: signal), standard output and error as text."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Trust:
    """How a server of TLS is known: by its own certificate, whatever its names are.

    Args:
        directory: with trusted.pem (such certificates), public.pem (the newest one's key) and client.pem.
        own: whether client.pem is shown to the server.
        ended: its certificate may have ended.
    """

    directory: Path
    own: bool = False
    ended: bool = False

    @property
    def curl(self) -> tuple[str, ...]:
        """curl's options for the same; it knows the server by its key."""
        own = ("--cert", str(self.directory / "client.pem")) if self.own else ()
        return ("-k", "--pinnedpubkey", str(self.directory / "public.pem"), *own)


@dataclass(frozen=True)
class FilePiece:
    """A part of a file: `size` is the whole file's, `data` is empty where nothing could be read."""

    size: int
    data: bytes


@dataclass(frozen=True)
class DeviceWrite:
    """A write of `text` and a newline to a file of /sys: only while the device `directory` is bound to `driver` ("" for
    none, "*" for any as long as it is there; no directory for no condition)."""

    path: str
    text: str
    directory: str = ""
    driver: str = "*"


@dataclass(frozen=True)
class WriteFailure:
    """The write that failed, and errno."""

    write: DeviceWrite
    number: int


class Reader(Protocol):
    """Read-only access to a machine. Nothing raises for what is absent: absence is a fact."""

    def text(self, path: str) -> str | None:
        """The file's text (at most 4 MiB), or None when it is absent or unreadable."""

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        """At most `size` bytes of a file from byte `start`; None when it is absent. Of what is no regular file nothing
        is read."""

    def names(self, path: str) -> tuple[str, ...]:
        """The sorted names in a directory; empty when it is absent."""

    def link(self, path: str) -> str | None:
        """Where a symbolic link points, as written; None when it is none."""

    def exists(self, path: str) -> bool:
        """Whether the path exists."""

    def which(self, program: str) -> str | None:
        """The absolute path of a program, sbin directories included."""

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        """A program's output; None when it is absent or did not end within `deadline` seconds."""

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        """What udev's database says of a device by its path in /sys; empty when unknown. Of a device that hangs this
        takes `deadline` seconds and leaves a process behind."""


class HostReader(Reader, Protocol):
    """A reader for a look at the whole machine."""

    def beside(self, programs: Sequence[tuple[str, ...]]) -> contextlib.AbstractContextManager[None]:
        """Inside, these programs may already run beside each other, each until `run` is asked for its output."""


class DeviceReader(HostReader, Protocol):
    """A reader that also dares to read what a broken driver can block."""

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        """As `text`, of files whose reading may never return, such as those that take a device's lock.

        A file that did not answer within `deadline` seconds is missing in the result.
        """

    def busy(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, bool]:
        """Whether each device node is open already (EBUSY); one that did not answer in time is missing."""


    def open_vfio(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, str]:
        """What the kernel says to a machine that opens each node of VFIO and asks for an IOMMU domain; nothing stays
        open.

        Returns:
            Empty when it grants that; "viable" when the group is not; else the step that fails ("open", "status",
            "container", "domain", "bind") and the error's name, such as "open EBUSY". A node that did not answer
            within `deadline` seconds is missing.
        """


class RunningWrites(Protocol):
    """The writes of one device, under way in a process that may never come back."""

    writes: tuple[DeviceWrite, ...]

    def result(self) -> WriteFailure | None:
        """How it ended, once it is among `Host.ended`."""

    def kill(self) -> bool:
        """Kill the process, unless it has ended; whether it is gone."""

    def stuck_at(self) -> list[str]:
        """Its state and kernel stack (proc(5))."""

    def close(self) -> None:
        """Let go of it."""


class Channel(Protocol):
    """A connected stream socket."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> None: ...


class Host(DeviceReader, Protocol):
    """A machine that can be changed. What fails raises VmtoolError or OSError."""

    def execute(self, argv: Sequence[str], *, deadline: float, env: Pairs = (), stdin: Path | bytes | None = None,
                stdout: Path | None = None) -> Output:
        """Run a program to its end, with a line and its output in the log.

        Raises:
            ProgramMissing: there is no such program.
            ProgramFailed: it did not end within `deadline` seconds. Its exit status is the caller's to judge: `check`.
        """

    def work(self, argv: Sequence[str], stdin: bytes, *, deadline: float, env: Pairs = ()) -> tuple[Output, bytes]:
        """As `execute`, for a program that reports errors to a descriptor of its own: see `vmtool.plan.workers`.

        Returns:
            Its output, and its report: at most 1 MiB, untrusted input.
        """

    def read(self, path: Path) -> bytes:
        """A file's content."""

    def tail(self, path: Path, lines: int = 12) -> list[str]:
        """The last lines of a log; empty when it is absent."""

    def write(self, path: Path, data: bytes | str, *, mode: int = 0o600, uid: int | None = None) -> None:
        """Write a file atomically and durably."""

    def make_dir(self, path: Path, *, mode: int = 0o700, uid: int = 0) -> None:
        """Create a directory and its parents; the last one gets `mode` and the owner."""

    def remove(self, path: Path) -> None:
        """Remove a file or a tree, if it is there; never what is mounted below it."""

    def living(self, pidfile: Path) -> int | None:
        """The pid in the file when that very process still lives."""

    def start_daemon(self, argv: Sequence[str], pidfile: Path, log: Path) -> None:
        """Start a program that outlives vmtool; its pid file is there before it is."""

    def start_time(self, pid: int) -> str | None:
        """The kernel's start time of a process, or None when it is gone; with the pid it names it for good."""

    def kill(self, pid: int, number: int) -> None:
        """Send a signal; one to a process that is gone goes nowhere."""

    def accepts(self, socket: Path) -> bool:
        """Whether something accepts connections on the Unix socket."""

    def connect(self, socket: Path) -> Channel:
        """Connect to a Unix socket."""

    def request(self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None,
                deadline: float, trust: Trust | None = None) -> tuple[int, str]:
        """An HTTP answer's status and text (at most 1 MiB); status 0 and the reason when there is none."""

    def shown_certificate(self, host: str, port: int, *, deadline: float) -> bytes:
        """The certificate that a server of TLS shows, as PEM, believed by nobody yet; empty when none is shown."""

    def stream(self, method: str, url: str, *, headers: Mapping[str, str] = {}, body: bytes | None = None,
               deadline: float, trust: Trust | None = None
               ) -> contextlib.AbstractContextManager[tuple[int, Iterator[str]]]:
        """An HTTP answer's status and its lines, as they come."""

    def start_writes(self, writes: Sequence[DeviceWrite]) -> RunningWrites:
        """Begin one device's writes, in a process of their own that can be left behind."""

    def ended(self, running: Sequence[RunningWrites], seconds: float) -> list[RunningWrites]:
        """Those that have ended, after at most this time."""

    def await_node(self, path: str, deadline: float) -> bool:
        """Whether a device's node is there, at the latest after `deadline` seconds."""

    def now(self) -> float:
        """Seconds, from any start; they never go back."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def log(self, text: str) -> None:
        """Append to the log of what is done."""

    def note(self, text: str) -> None:
        """Report something for whoever waits, such as the seconds waited."""


def is_full(result: Output) -> bool:
    """Whether a program met a full disk (ENOSPC, EDQUOT as libc and Go name them)."""
    text = f"{result.out}\n{result.err}".lower()
    return result.status != 0 and ("no space left on device" in text or "disk quota exceeded" in text)


def check(argv: Sequence[str], result: Output, hint: str = "") -> None:
    """Raise ProgramFailed, with the last lines of the output, unless the program ended well."""
    if result.status == 0:
        return
    how = f"died of {signal.Signals(-result.status).name}" if result.status < 0 else f"exit status {result.status}"
    if result.status == 127:
        how += " (a program that it calls is missing)"
    lines = [line for line in (result.out + "\n" + result.err).splitlines() if line.strip()]
    if is_full(result):
        how, hint = f"{how}, since a disk is full", hint or "make room: df -h"
    raise ProgramFailed(f"{shlex.join(argv[:6])}{' ...' if len(argv) > 6 else ''}: {how}", how=how,
                        details=lines[-8:], hint=hint)
