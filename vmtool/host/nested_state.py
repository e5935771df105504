"""Whether a state directory is within another one, or around one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import Refused, shell_word
from vmtool.paths import State

# How deep below a new state directory another one is looked for, and in how many directories.
DEEP, MANY = 3, 2000


def check_apart(state: State) -> None:
    """Look whether a new state directory would be in another one, or around one: what each keeps there, and removes
    with all below it, would be the other's. Two that are so already go on as they are.

    Raises:
        Refused: it would.
    """
    if _is_one(state.root):
        return
    around = next(filter(_is_one, state.root.parents), None)
    inside = next(filter(_is_one, _below(state.root)), None)
    if other := around or inside:
        raise Refused(f"{state.root} is {'within' if around else 'around'} another state directory, {other}",
                      details=["use that one, or one beside it"],
                      hint=f"vmtool --state-dir {shell_word(other)} ps")


def _is_one(directory: Path) -> bool:
    """As far as this user may look: others' are root's alone."""
    return os.path.exists(State(directory).host_lock)


def _below(root: Path) -> Iterator[Path]:
    """Directories below one, the nearest first."""
    waiting = [(root, 0)]
    for directory, depth in waiting:
        if depth < DEEP and len(waiting) < MANY:
            with contextlib.suppress(OSError), os.scandir(directory) as entries:
                found = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
                waiting += [(Path(path), depth + 1) for path in found[:MANY - len(waiting)]]
        if depth:
            yield directory
