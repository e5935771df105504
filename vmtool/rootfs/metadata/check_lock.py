"""Holding what was installed against a lock file: a program of vmtool's own, run as a step of a build.

    python -m vmtool.rootfs.metadata.check_lock LOCK FOUND

FOUND is packages.txt of a base, or lock.json of an image, which has the driver too. Each difference is a line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.rootfs.metadata import packages as package_list
from vmtool.rootfs.metadata.lock_file import differences, read_lock

# The lines of a failed program's output that are shown; the log has them all.
_SHOWN = 7


def hold(lock: Path, found: Path) -> list[str]:
    """What differs, a line each; nothing when all is as it was."""
    wanted, driver = read_lock(lock)
    if found.suffix != ".json":
        return differences(wanted, package_list.parse(found.read_text(errors="replace")))
    packages, made = read_lock(found)
    told = [] if driver == made else [f"the driver is {_told(made)}, the lock has {_told(driver)}"]
    return told + differences(wanted, packages)


def _told(driver: dict[str, object]) -> str:
    return f"{driver['version']} for {driver['kernel']}" if driver else "none"


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) != 2:
        sys.exit(__doc__)
    try:
        lines = hold(Path(words[0]), Path(words[1]))
    except VmtoolError as error:
        sys.exit("\n".join([*error.details, error.message]))
    if lines:
        summary = f"{len(lines)} differ from {words[0]}"
        # The last lines are what a person sees first.
        sys.exit("\n".join([*lines[_SHOWN:], *lines[:_SHOWN], summary]))


if __name__ == "__main__":
    main(sys.argv[1:])
