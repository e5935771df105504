"""A file into an ext4 of an image, in the place of one that is there: a worker."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from vmtool.errors import ProgramFailed
from vmtool.frozen import dataclass
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """Which file, and where it goes.

    Args:
        start: byte of the image where the ext4 begins.
        path, mode: in the guest.
        debugfs: how it is called.
    """

    image: Path
    start: int
    file: Path
    path: str
    mode: int
    debugfs: tuple[str, ...]


def run(order: Order, host: Host) -> None:
    """Do it. debugfs never fails, so the file is read back.

    Raises:
        ProgramFailed: it did not get into the image.
    """
    device, (parent, _, name) = f"{order.image}?offset={order.start}", order.path.rpartition("/")
    directories = [order.path[:at] for at in range(1, len(parent) + 1) if order.path[at] == "/"]

    def stat_of(path: str) -> str:
        return host.execute((*order.debugfs, "-R", f'stat "{path}"', device), deadline=60).out

    # mkdir of one that is there fails and leaves a lost inode behind, so each is asked for first.
    lines = [f'mkdir "{directory}"' for directory in directories if "Type:" not in stat_of(directory)]
    lines += [f'cd "{parent or "/"}"', f'rm "{name}"', f'write "{order.file}" "{name}"',
              f'set_inode_field "{name}" mode 0{stat.S_IFREG | order.mode:o}', f'set_inode_field "{name}" uid 0',
              f'set_inode_field "{name}" gid 0']
    output = host.execute((*order.debugfs, "-w", "-f", "-", device), deadline=300, stdin="\n".join(lines).encode())
    seen = stat_of(order.path)
    if not re.search(rf"Type: regular\s+Mode:\s+{order.mode:04o}\b", seen) or not re.search(
            rf"\bSize: {order.file.stat().st_size}\b", seen):
        raise ProgramFailed(f"{order.path} did not get into the image",
                            details=(output.out[-2000:] + "\n" + output.err[-2000:]).strip().splitlines()[-8:])
