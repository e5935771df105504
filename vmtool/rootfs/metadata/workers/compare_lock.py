"""Comparing what was installed with a lock file: a worker."""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.metadata import packages as package_list
from vmtool.rootfs.metadata.lock_file import differences, read_lock

# Differences that an error names; the log has them all.
_SHOWN = 7


@dataclass(frozen=True)
class Order:
    """The lock file, and what is compared with it: packages.txt of a base, or lock.json of an image, which has the
    driver too."""

    lock: Path
    found: Path


def run(order: Order, host: Host) -> None:
    """Print each difference.

    Raises:
        VmtoolError: there is one.
    """
    lines = compare(order.lock, order.found)
    for line in lines:
        print(line)
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise VmtoolError(f"{len(lines)} differ from {order.lock}", details=[*lines[:_SHOWN], *more])


def compare(lock: Path, found: Path) -> list[str]:
    """What differs, a line each; nothing when all is as it was."""
    expected, driver = read_lock(lock)
    if found.suffix != ".json":
        return differences(expected, package_list.parse(found.read_text(errors="replace")))
    packages, own = read_lock(found)
    lines = [] if driver == own else [f"the driver is {_name(own)}, the lock has {_name(driver)}"]
    return lines + differences(expected, packages)


def _name(driver: dict[str, object]) -> str:
    return f"{driver['version']} for {driver['kernel']}" if driver else "none"
