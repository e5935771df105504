"""The engine as a process: started in a session of its own, reaped, and ended with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vmtool.serving.hardening import HOST_IPC

PR_SET_CHILD_SUBREAPER = 36
CLEAR_SECONDS = 10.0
# vLLM's workers share tensors here; of a killed one they stay, and count as the container's memory.
SHARED = Path("/dev/shm")  # noqa: S108


class Child:
    """The engine in a session of its own, so that signals reach its workers as well.

    Args:
        environment: the whole of it; None for this process's own.
    """

    def __init__(self, name: str, argv: tuple[str, ...], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.ended = asyncio.Event()
        self.status = 0
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True,
                                        env=environment)

    def reap(self) -> None:
        """Collect every child that has ended: PID 1 inherits the orphans of the whole container."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.process.pid:
                    self.status = ended[1]
                    self.process.returncode = os.waitstatus_to_exitcode(ended[1])
                    self.ended.set()

    async def stop(self, grace: float, say: Callable[[str], None]) -> None:
        """SIGTERM, wait at most `grace` seconds, SIGKILL; nothing that it started is left after it."""
        if not self.ended.is_set():
            say(f"stopping {self.name}")
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace)
        self.signal(signal.SIGKILL)
        if not self.ended.is_set():
            await self.ended.wait()
        if left := await self.clear():
            say(f"{len(left)} processes of {self.name} survive SIGKILL")

    async def clear(self) -> list[int]:
        """Kill what an ended engine has left: its session, and whatever left that and was inherited by this process.

        Returns:
            Processes that do not end, such as those that hang in a driver.
        """
        self.signal(signal.SIGKILL)
        end = time.monotonic() + CLEAR_SECONDS
        while left := children():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.02)
        return left

    def workers(self) -> set[int]:
        """What it has started, and what that has."""
        everything, found, more = [*_processes()], set[int](), {self.process.pid}
        while more:
            more = {pid for pid, parent in everything if parent in more} - found
            found |= more
        return found

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def inherit_orphans() -> None:
    """Be the parent of every descendant whose own has died, as PID 1 is anyway (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """The processes whose parent is this one. What is executed into a container has its parent outside."""
    return [pid for pid, parent in _processes() if parent == os.getpid()]


def _processes() -> Iterator[tuple[int, int]]:
    """Each process and its parent."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                # pid (name) state ppid: the name may hold anything (proc(5)).
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
                yield int(entry), int(fields[1])


def clear_files(kept: Path) -> None:
    """Remove what a killed engine left in memory: shared tensors, and sockets beside the one that is `kept`.

    Only as PID 1, where all of it is this container's own; shared memory is not where it is the host's.
    """
    if os.getpid() != 1:
        return
    own = os.getuid()
    shared = () if os.readlink("/proc/self/ns/ipc") == HOST_IPC else SHARED.glob("*")
    for path in (*shared, *Path(tempfile.gettempdir()).glob("*")):
        with contextlib.suppress(OSError):
            found = path.lstat()
            wanted = stat.S_ISREG(found.st_mode) if path.parent == SHARED else stat.S_ISSOCK(found.st_mode)
            if wanted and found.st_uid == own and path != kept:
                path.unlink()


def describe(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
