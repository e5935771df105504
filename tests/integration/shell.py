"""Typing an action's shell line, and doing the action itself, from the same start; what both have left."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmtool.errors import VmtoolError
from vmtool.host.local import LocalHost
from vmtool.isolation import ENVIRONMENT
from vmtool.net.actions import CallPlugin, LeadPorts, RemoveBridge, RemoveChain, RemoveGuard, RemoveSharedChains
from vmtool.plan import Action

# Done and typed within a host of their own: test_shell_lines_net.py.
IN_A_NETWORK = (CallPlugin, LeadPorts, RemoveBridge, RemoveChain, RemoveGuard, RemoveSharedChains)


@dataclass(frozen=True)
class Scene:
    """An action in a scratch directory.

    Args:
        kind: of the action; `title` says what is special.
        start: makes the start in a directory, and the action for it.
        look: what else than files is compared afterwards.
        changing: names of files whose content is another each time.
    """

    kind: type[Action]
    title: str
    start: Callable[[Path], Action]
    look: Callable[[Path], Any] = lambda place: None
    changing: tuple[str, ...] = ()
    ends: Callable[[Path], None] = field(default=lambda place: None)


def type_line(line: str, *argv: str) -> bool:
    """Type a line into a shell, which ends at the first command that fails; whether none did."""
    done = subprocess.run([*argv, "sh", "-e"], input=f"{line}\n", text=True, env=ENVIRONMENT, cwd="/", timeout=60,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    print(f"$ {line}\n=> {done.returncode} {done.stderr}")
    return done.returncode == 0


def type_it(action: Action) -> bool:
    """Type its line."""
    return type_line(action.shell())


def do(action: Action) -> bool:
    """Do it on this machine; whether it worked."""
    try:
        action.do(LocalHost())
    except (VmtoolError, OSError) as error:
        print(f"{action}: {error}")
        return False
    return True


def tree(place: Path, changing: tuple[str, ...]) -> dict[str, tuple[object, ...]]:
    """Everything below a directory: kind, mode, owner and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        data: object = None
        if stat.S_ISLNK(status.st_mode):
            data = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            data = path.read_bytes().decode("latin-1") if path.name not in changing else "changing"
            data = str(data).replace(str(place), "PLACE")
        found[str(path.relative_to(place))] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid, data)
    return found
