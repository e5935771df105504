"""Put a model that was made again into the place of the old one, at one moment: a worker."""

from __future__ import annotations

import errno
from pathlib import Path

from vmtool.errors import NotReady, shell_word
from vmtool.frozen import dataclass
from vmtool.host import files
from vmtool.host.clone import exchange
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """The model's directory, and the new one, which is next to it; after it they have each other's names."""

    directory: Path
    new: Path


def run(order: Order, host: Host) -> None:
    """Do it.

    Raises:
        NotReady: the file system cannot swap directories, or something is mounted there.
    """
    try:
        exchange(order.new, order.directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBUSY, errno.ENOSYS, errno.EXDEV):
            raise
        raise NotReady(f"{order.directory}: cannot be swapped with {order.new} at one moment: {error.strerror}",
                       hint=f"copy the model to another file system, and work there: findmnt --target "
                       f"{shell_word(order.directory)}") from error
    files.sync_directory(order.directory.parent)
