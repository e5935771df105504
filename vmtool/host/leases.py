"""Having an image to oneself, by the kernel's leases: who opens it waits until the lease is released (fcntl(2)).

Who waits is let in after 45 seconds at the latest (/proc/sys/fs/lease-break-time), and holds off any further lease, so
whoever has a lease looks for them: `Held.check`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import NotReady
from vmtool.frozen import dataclass
from vmtool.host import safe_open

# Seconds for processes of a vmtool that was killed to be gone.
_WAIT = 5.0


@dataclass(frozen=True)
class Held:
    """An open image; without `leased` its file system has no leases, and the planner's look at /proc must do."""

    image: Path
    descriptor: int
    leased: bool

    def check(self) -> None:
        """Raise NotReady when somebody waits to write to the image. Who reads may wait."""
        if self.leased and fcntl.fcntl(self.descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK:
            raise NotReady(f"{self.image}: another process opened it", hint="end what uses it, then try again")


@contextlib.contextmanager
def alone(image: Path) -> Iterator[Held]:
    """Open an image to read and write while nobody else has it open."""
    with _hold(image, os.O_RDWR, fcntl.F_WRLCK) as held:
        yield held


@contextlib.contextmanager
def unwritten(image: Path) -> Iterator[Held]:
    """Open an image to read while nobody has it open to write; other programs may read it too."""
    with _hold(image, os.O_RDONLY, fcntl.F_RDLCK) as held:
        yield held


@contextlib.contextmanager
def _hold(image: Path, flags: int, kind: int) -> Iterator[Held]:
    signal.signal(signal.SIGIO, signal.SIG_IGN)        # somebody waits
    end = time.monotonic() + _WAIT
    with contextlib.ExitStack() as opened:
        while True:
            try:
                descriptor = safe_open.open_regular(image, flags)
                opened.callback(os.close, descriptor)
                held = Held(image, descriptor, _lease(image, descriptor, kind))
                break
            except BlockingIOError:
                opened.close()
            if time.monotonic() > end:
                raise NotReady(f"{image} is in use", hint="end what uses it, then try again")
            time.sleep(0.05)
        yield held


def _lease(image: Path, descriptor: int, kind: int) -> bool:
    """Whether there is one now; BlockingIOError when somebody else has the file open."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, kind)
    except OSError as error:
        if error.errno == errno.EINVAL:                # a file system without them: NFS, FUSE
            return False
        if error.errno == errno.EACCES:
            raise NotReady(f"{image} belongs to another user, so others cannot be kept from opening it",
                           hint="run vmtool as its owner or as root") from error
        raise
    return True
