"""The key agent: gives the engine's workers the keys of the model, each of them once, and nobody else.

It is the entrypoint, so the engine's processes descend from it. A peer must be a process of this user's that descends
from the engine as it was started last. Descriptors of both are held, which say whether they have ended since: then a
number may be somebody else's, and nobody gets anything. What a worker gets is a sealed file in memory, which it can
only read. After the last worker the socket is gone.

An engine that is started again needs the keys again, and nobody may be there to give them a second time: so the
bundle, which opens this model alone, stays in this process's memory as long as the restart policy has a start left.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from vmtool.serving.cryptotensors.files import wipe

# linux/socket.h, since 6.5; Python has no name for it.
SO_PEERPIDFD = 77
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
# Processes between a worker and the engine; vLLM has two.
DEPTH = 8


class KeyAgent:
    """One model's keys.

    Args:
        path: the socket; its directory is this user's alone.
        packed: `Bundle.pack`; it is overwritten at the end.
        workers: how many processes of one engine read the model.
        again: whether an engine may be started again.
        itself: whether the engine reads the model in the very process that was started; vLLM does not.
        say: receives lines for the log.
    """

    def __init__(self, path: Path, packed: bytearray, workers: int, say: Callable[[str], None], *,
                 again: bool = True, itself: bool = False) -> None:
        self.path, self.packed, self.workers, self.say = path, packed, workers, say
        self.again, self.itself = again, itself
        self.server, self.held = 0, -1
        self.served: set[int] = set()
        self.listening: socket.socket | None = None

    def open(self, server: int) -> None:
        """Listen for the workers of an engine that was just started.

        Args:
            server: its process, which nobody has waited for yet.

        Raises:
            OSError: no socket, or no descriptor of the process, can be made; nobody gets the keys.
        """
        self.close()
        self.server, self.served = server, set()
        self.held = os.pidfd_open(server)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            mask = os.umask(0o177)
            try:
                listening.bind(str(self.path))
            finally:
                os.umask(mask)
            listening.listen(16)
        except OSError:
            listening.close()
            raise
        self.listening = listening
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept)

    def close(self) -> None:
        """Listen no more; the socket is gone."""
        if self.listening:
            asyncio.get_running_loop().remove_reader(self.listening.fileno())
            self.listening.close()
            self.listening = None
        if self.held >= 0:
            os.close(self.held)
            self.held = -1
        self.path.unlink(missing_ok=True)

    def end(self) -> None:
        """For good: the keys are overwritten."""
        self.close()
        wipe(self.packed)
        self.packed = bytearray()

    def _accept(self) -> None:
        if self.listening is None:
            return
        try:
            peer, _ = self.listening.accept()
        except OSError:
            return
        with peer:
            problem = self._give(peer)
        if problem:
            self.say(f"a process that asked for the model's keys was refused: {problem}")
        elif len(self.served) >= self.workers:
            self.close()
            self.say(f"{len(self.served)} worker{'s' if self.workers > 1 else ''} got the model's keys; nobody else "
                     "gets them")
            if not self.again:
                self.end()

    def _give(self, peer: socket.socket) -> str:
        """Why it gets nothing; empty when it got the keys."""
        pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid <= 0 or uid != os.getuid():
            return f"it is of user {uid}"
        try:
            held = pidfd_of(peer, pid)
        except OSError as error:
            return f"process {pid} cannot be held: {error.strerror}"
        try:
            belongs = pid == self.server if self.itself else descends(pid, self.server)
            # After the look: so far neither number has been another's.
            if not belongs or has_ended(held) or has_ended(self.held):
                return f"process {pid} does not belong to the engine"
            if pid in self.served:
                return f"process {pid} has them already"
            with sealed(self.packed) as descriptor:
                socket.send_fds(peer, [b"keys"], [descriptor])
        except OSError as error:
            return f"process {pid}: {error.strerror}"
        finally:
            os.close(held)
        self.served.add(pid)
        return ""


def pidfd_of(peer: socket.socket, pid: int) -> int:
    """A descriptor of the process that connected.

    Raises:
        OSError: it has ended.
    """
    with contextlib.suppress(OSError):  # a kernel before 6.5
        return int(peer.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
    return os.pidfd_open(pid)


def has_ended(held: int) -> bool:
    """Whether the process of a descriptor has ended: then its number may be another's (pidfd_open(2))."""
    poll = select.poll()
    poll.register(held, select.POLLIN)
    return bool(poll.poll(0))


def descends(pid: int, ancestor: int) -> bool:
    """Whether a process is another's child, or child's child, but not that one itself."""
    for _ in range(DEPTH):
        try:
            # pid (name) state ppid: the name may hold anything (proc(5)).
            pid = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
        if pid == ancestor:
            return True
    return False


@contextlib.contextmanager
def sealed(data: bytearray) -> Iterator[int]:
    """A file in memory with these bytes that nobody can change, opened to read (memfd_create(2), fcntl(2))."""
    made = os.memfd_create("model-keys", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(made, view):]
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, SEALS)
        descriptor = os.open(f"/proc/self/fd/{made}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
