"""The step that copies what stays in clear of an encrypted model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmtool import plan as p
from vmtool.models.encryption.progress import new_path
from vmtool.models.workers import copy_files

# Seconds for a file or all of those in clear: slow network storage, with room.
DEADLINE = 24 * 3600


def plan_copy(pairs: Sequence[tuple[Path, Path]]) -> tuple[p.Step, ...]:
    """One step for all of them, none for none. An interrupted one leaves no part of a file.

    Args:
        pairs: from where to where.
    """
    if not pairs:
        return ()
    sources, targets = (tuple(each[side] for each in pairs) for side in (0, 1))
    title = f"copy {targets[0].name}" + (f" and {len(targets) - 1} more" if targets[1:] else "")
    return (p.Step(title, (p.run_worker(copy_files.Order(sources, targets), deadline=DEADLINE),),
                   undo=tuple(p.Remove(new_path(target)) for target in targets)),)
