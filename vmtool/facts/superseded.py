"""Parts of a cache that builds made and that are not worth their place any more."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path

# Of each kind of part that builds leave, so many are kept that no build needs now: those that were read last.
KEPT = 12


def superseded(parts: Iterable[Path], needed: Collection[Path], oldest: float = 0.0) -> tuple[Path, ...]:
    """The parts that nothing has read since `oldest` (seconds since the epoch), and those beyond the KEPT that were
    read or made last.

    Args:
        parts: of one kind, by the file whose reading counts (Linux notes it once a day: mount(8), relatime), or by the
            directory whose making does.
    """
    used = []
    for part in parts:
        with contextlib.suppress(OSError):
            status = part.stat()
            if part not in needed:
                used.append((status.st_ctime if part.is_dir() else max(status.st_atime, status.st_mtime), part))
    newest = sorted(used, reverse=True)
    return tuple(sorted(part for place, (time, part) in enumerate(newest) if place >= KEPT or time < oldest))
