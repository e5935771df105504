"""An initrd with an archive behind it: a worker.

The kernel unpacks archives that follow each other into one tree (Linux,
Documentation/driver-api/early-userspace/buffer-format.rst), so a second one is appended to a copy.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
from pathlib import Path

from vmtool.foreign import open_file
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.build.workers import cpio

ADDED = "vmtool"


@dataclass(frozen=True)
class Order:
    """The initrd, what goes into its directory /vmtool, and the copy."""

    image: Path
    busybox: Path
    directory: Path
    out: Path


def run(order: Order, host: Host) -> None:
    """Write the copy."""
    files = [path for path in sorted(order.directory.iterdir()) if path.name != order.out.name]
    with order.out.open("wb") as file:
        with open_file(order.image) as source:
            shutil.copyfileobj(source, file, 1 << 20)
        file.write(bytes(-file.tell() % 4))
        cpio.entry(file, ADDED, 1, stat.S_IFDIR | 0o755, tarfile.TarInfo(ADDED), b"")
        for number, path in enumerate([order.busybox, *files], 2):
            name = f"{ADDED}/{'busybox' if path == order.busybox else path.name}"
            mode = stat.S_IFREG | (0o755 if path.name in ("busybox", "init") else 0o644)
            cpio.entry(file, name, number, mode, tarfile.TarInfo(name), path.read_bytes())
        cpio.entry(file, "TRAILER!!!", 0, 0, tarfile.TarInfo(), b"")
