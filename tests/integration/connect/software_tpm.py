"""A guest with a software TPM: real TPM code, Debian's swtpm."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.tee_guest import FakeGuest
from tests.integration.connect.running import until


@contextlib.contextmanager
def swtpm(directory: Path, *more: str) -> Iterator[FakeGuest]:
    """A guest whose TPM is this one; its socket takes commands as /dev/tpmrm0 does."""
    path = directory / "socket"
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}", "--server", f"type=unixio,path={path}",
            "--ctrl", f"type=unixio,path={path}.ctrl", "--flags", "not-need-init,startup-clear", *more]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(path.exists, "swtpm does not listen")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(str(path))

                def ask(command: bytes) -> bytes:
                    connection.sendall(command)
                    return connection.recv(4096)

                yield FakeGuest(tpm=ask)
        finally:
            process.kill()
