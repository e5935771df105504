"""Writes what a container says into its log: a program that containerd's shim starts (`--log-uri binary://`).

What the shim itself would do (`file://`) has no bound, and ends at the first write that fails: when the disk is full
the container stands still with its next 64 KiB, for good. This one keeps the log at its bound (`bounded_log`), and goes
on without what could not be written, of which it says how much it was. It ends when its pipes do.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from functools import partial
from pathlib import Path

from vmtool.host import bounded_log, event_log

# How a shim passes them on (containerd's runtime/v2/logging): standard output, standard error, and what is closed to
# say that the writer is ready.
PIPES, READY = (3, 4), 5
PIECE = 64 << 10
# Seconds until another one takes the place of a writer that was killed.
PAUSE = 0.2
# Bytes that are written between two looks at the log's size.
BETWEEN = 1 << 20


class LogWriter:
    """A log whose disk may be full.

    Args:
        path: of the log, which is opened when there is something to write.
        directory: the instance's, with its events.
    """

    def __init__(self, path: Path, directory: Path) -> None:
        self.path, self.directory = path, directory
        self.descriptor = -1
        self.since_look = 0
        self.lost, self.why = 0, ""

    def write(self, data: bytes) -> None:
        """Append it, or count it as lost."""
        try:
            if self.lost:
                self._put(f"\nvmtool: {self.lost} bytes are missing here: {self.why}\n".encode())
                # Beside what guests say, of which there may be much: it takes no place of what the host saw.
                event_log.record(self.directory, "log-lost", file=event_log.GUEST, bytes=self.lost, why=self.why)
                self.lost = 0
            while data:
                data = data[self._put(data):]
        except OSError as error:
            self.lost, self.why = self.lost + len(data), f"{error.strerror}"

    def _put(self, data: bytes) -> int:
        self._open()
        self.since_look += len(data)
        if self.since_look > BETWEEN:
            self.since_look = 0
            # Whatever it fails of, such as memory, it is tried again, and costs no line.
            with contextlib.suppress(Exception):
                bounded_log.bound(self.path, partial(event_log.collect, self.directory))
        return os.write(self.descriptor, data)

    def _open(self) -> None:
        """The file at the path: who has removed the log, to make room perhaps, is written another one."""
        if self.descriptor >= 0:
            if event_log.is_at(self.path, os.fstat(self.descriptor)):
                return
            os.close(self.descriptor)
            self.descriptor = -1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(self.path, flags, 0o600)


def pump(pipes: tuple[int, ...], log: LogWriter) -> None:
    """Write what comes, until all of the pipes have ended."""
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                if data := os.read(key.fd, PIECE):
                    log.write(data)
                else:
                    selector.unregister(key.fd)


def main(place: str) -> None:
    """Write the log of a launch.

    Args:
        place: INSTANCE/SLOT/log/guest.log, the slot of the first launch being a dot.
    """
    # The shim sends it when the container has ended, with something in the pipes perhaps.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    directory = Path(place.rsplit("/", 3)[0])
    os.close(READY)
    # Two processes: whichever is killed, what the container says has a reader.
    while child := _fork():
        if not os.waitpid(child, 0)[1]:
            return
        time.sleep(PAUSE)
    pump(PIPES, LogWriter(Path(place), directory))


def _fork() -> int:
    """As fork(2); where there is no memory for another process, this one is the child."""
    try:
        return os.fork()
    except OSError:
        return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
