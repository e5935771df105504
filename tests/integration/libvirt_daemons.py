"""libvirt's daemons where the system's would be, on a machine that runs none."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.integration.machine import output

SOCKET = Path("/run/libvirt/libvirt-sock")


@contextlib.contextmanager
def libvirt_daemons(directory: Path) -> Iterator[None]:
    """Start them, with their pid files in the directory; ended and their sockets removed afterwards."""
    daemons = [subprocess.Popen([name, "--pid-file", str(directory / f"{name}.pid")], stderr=subprocess.DEVNULL)
               for name in ("virtlogd", "libvirtd")]
    try:
        end = time.monotonic() + 120
        while not output("virsh", "-c", "qemu:///system", "version"):
            assert time.monotonic() < end, "libvirt's daemons do not answer"
            time.sleep(0.1)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)
        for path in SOCKET.parent.glob("*sock*"):
            path.unlink()
