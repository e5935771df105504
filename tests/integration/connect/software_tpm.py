"""A guest with a software TPM: real TPM code, Debian's swtpm."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.tee_guest import FakeGuest
from tests.integration.connect.running import until

# __SO_ACCEPTCON of Linux' net.h.
ACCEPTS = 1 << 16


@contextlib.contextmanager
def running(directory: Path, *more: str) -> Iterator[Path]:
    """The socket of a TPM whose state is in the directory; it takes commands as /dev/tpmrm0 does."""
    path = directory / "socket"
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}", "--server", f"type=unixio,path={path}",
            "--ctrl", f"type=unixio,path={path}.ctrl", "--flags", "not-need-init,startup-clear", *more]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(path), "swtpm does not listen")
            yield path
        finally:
            process.kill()


@contextlib.contextmanager
def swtpm(directory: Path, *more: str) -> Iterator[FakeGuest]:
    """A guest whose TPM is this one."""
    with running(directory, *more) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))

        def ask(command: bytes) -> bytes:
            connection.sendall(command)
            return connection.recv(4096)

        yield FakeGuest(tpm=ask)


def listens(path: Path) -> bool:
    """Whether somebody takes connections there. A socket is there a moment before, and a try would take one of them."""
    rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
    return any(row[-1] == str(path) and int(row[3], 16) & ACCEPTS for row in rows if len(row) == 8)
