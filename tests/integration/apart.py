"""What lets tests run beside those that look at the whole machine: namespaces of the test process's own.

Each process that runs tests has a UTS namespace of its own. Whatever it starts inherits that, also a daemon whose
parents are gone: so a look at all processes knows which ones another test process has started. And a module may be
apart as a whole: its mounts and what it makes in /run/vmtool are then seen by itself alone, and, when it asks for that,
the machine around it has no links and no rules.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

MOUNTS, NAMES, LINKS = 0x00020000, 0x04000000, 0x40000000  # CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET
FILES = {MOUNTS: "mnt", NAMES: "uts", LINKS: "net"}
RUN, NETWORKS = Path("/run/vmtool"), Path("/run/netns")


def _call(name: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}{arguments}: {os.strerror(ctypes.get_errno())}")


def leave_the_machines(*kinds: int) -> None:
    """Be in new namespaces, with all that is started from now on."""
    # /proc/self tells of the first thread; and what it starts inherits.
    assert threading.current_thread() is threading.main_thread()
    _call("unshare", sum(kinds))


@contextlib.contextmanager
def apart(*kinds: int) -> Iterator[None]:
    """Mounts and /run/vmtool of our own, and what else is named, for the block; with links their namespaces too."""
    kinds, own = (MOUNTS, *kinds), [RUN, *([NETWORKS] if LINKS in kinds else [])]
    for place in own:
        place.mkdir(mode=0o755, exist_ok=True)
    here = os.getcwd()
    before = [(os.open(f"/proc/self/ns/{FILES[kind]}", os.O_RDONLY), kind) for kind in kinds]
    try:
        leave_the_machines(*kinds)
    except PermissionError:
        for descriptor, _ in before:
            os.close(descriptor)
        pytest.skip("needs namespaces: unshare(2) is not permitted")
    try:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=30)
        for place in own:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", place], check=True, timeout=30)
        yield
    finally:
        for descriptor, kind in before:
            _call("setns", descriptor, kind)
            os.close(descriptor)
        os.chdir(here)  # a mount namespace is entered at its root


def started_by_others(pid: str, others: set[str]) -> bool:
    """Whether it, or the nearest of its ancestors that tells, is in the UTS namespace of another test process. What
    tells nothing may be anybody's."""
    tell = {**dict.fromkeys(others, True), _names("self"): False}
    while int(pid):
        if (namespace := _names(pid)) in tell:
            return tell[namespace]
        pid = _parent(pid)
    return False


def other_test_processes() -> set[str]:
    """The UTS namespaces of those whom the same one has started."""
    parent = str(os.getppid())
    beside = {_names(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == parent}
    return beside - {_names("self"), _names(parent), ""}


def _names(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/uts")
    except OSError:
        return ""


def _parent(pid: str) -> str:
    """0 when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return "0"
