"""One device's writes to /sys in a child process, which may never come back and then is left behind."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vmtool.host.uninterruptible import detach
from vmtool.machine import DeviceWrite, RunningWrites, WriteFailure

# How long a child may take to die after SIGKILL; what is in an uninterruptible sleep does not.
KILLED_WITHIN = 1.0


class DeviceWriteProcess:
    """Starts at once; `result` can be read when `fd` is readable."""

    def __init__(self, writes: Sequence[DeviceWrite]) -> None:
        self.writes = tuple(writes)
        self.fd, end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _child(self.writes, end)
        os.close(end)

    def result(self) -> WriteFailure | None:
        """How it ended, once `fd` is readable. A child that was killed left no word: that is EINTR."""
        reported = os.read(self.fd, 100).decode()
        os.waitpid(self.pid, 0)
        index, _, number = reported.partition(" ")
        if not reported:
            return WriteFailure(self.writes[-1], 4)
        return WriteFailure(self.writes[int(index)], int(number)) if number != "0" else None

    def kill(self) -> bool:
        """Kill the child, unless it has ended; whether it is gone."""
        end = time.monotonic() + KILLED_WITHIN
        try:
            os.kill(self.pid, signal.SIGKILL)
            while not os.waitpid(self.pid, os.WNOHANG)[0]:
                if time.monotonic() > end:
                    return False
                time.sleep(0.01)
        except (ProcessLookupError, ChildProcessError):
            pass
        return True

    def stuck_at(self) -> list[str]:
        """The child's state and kernel stack (proc(5)); for root only, and only while it lives."""
        lines = []
        for name, prefix in (("status", "State:"), ("stack", "")):
            try:
                text = Path(f"/proc/{self.pid}/{name}").read_text()
            except OSError:
                continue
            lines += [line for line in text.splitlines() if line.startswith(prefix)]
        return lines

    def close(self) -> None:
        """Close the pipe to the child."""
        os.close(self.fd)


def readable(running: Sequence[RunningWrites], seconds: float) -> list[RunningWrites]:
    """Those that have ended, after at most this time."""
    processes = [each for each in running if isinstance(each, DeviceWriteProcess)]
    found, _, _ = select.select([each.fd for each in processes], [], [], max(0.0, seconds))
    return [each for each in processes if each.fd in found]


def _child(writes: Sequence[DeviceWrite], end: int) -> NoReturn:
    """Write, tell, end."""
    reported = "0 5"
    try:
        detach(end)
        reported = _do(writes)
    finally:
        os.write(end, reported.encode())
        os._exit(0)


def _do(writes: Sequence[DeviceWrite]) -> str:
    """Number of the write that failed and errno; "0 0" when all were done."""
    for index, write in enumerate(writes):
        if not holds(write):
            continue
        try:
            descriptor = os.open(write.path, os.O_WRONLY)
            try:
                os.write(descriptor, f"{write.text}\n".encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            return f"{index} {error.errno}"
    return "0 0"


def holds(write: DeviceWrite) -> bool:
    """Whether the condition of a write is met now."""
    if not write.directory:
        return True
    return os.path.exists(write.directory) and write.driver in ("*", driver_of(write.directory))


def driver_of(directory: str) -> str:
    """The driver a device is bound to; empty when there is none."""
    try:
        return os.path.basename(os.readlink(f"{directory}/driver"))
    except OSError:
        return ""
