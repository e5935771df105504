"""The promise that an instance runs: made by its launch, kept by `vmtool watch`, taken back by a person."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.host import daemons, files, locks
from vmtool.instance.instance import Instance, Paths
from vmtool.instance.read import read_instance
from vmtool.paths import State

# How `vmtool watch` is called in the lock of an instance that it starts.
BY_WATCH = "vmtool watch: start"
# Seconds that a start of watch's own is given to notice that it is not wanted any more, and to undo itself.
ABORTED_WITHIN = 600.0


def mark_stopped(instance: Instance) -> None:
    """From now on only a person starts it again."""
    files.write(instance.paths.stopped, "")


def mark_stopping(instance: Instance) -> None:
    """The same, as long as this process lives: one that is killed before the end of what it stops has stopped nothing.
    The mark of another command stays what it is."""
    if is_stopped(instance.paths):
        return
    try:
        daemons.write_own(instance.paths.stopped)
    except OSError:
        mark_stopped(instance)  # of no length: a full disk keeps nobody from stopping what fills it


def is_stopped(paths: Paths) -> bool:
    """Whether only a person starts it again."""
    return daemons.is_marked(paths.stopped)


def started_by_watch(state: State, instance: Instance) -> bool:
    """Whether it is `vmtool watch` that starts it just now."""
    return instance.state == "starting" and find_start_by_watch(state, instance.paths.directory) is not None


def find_start_by_watch(state: State, directory: Path) -> int | None:
    """The process by which `vmtool watch` starts the instance in `directory` just now."""
    found = locks.holder(state.lock(directory))
    return found[1] if found and found[0].startswith(BY_WATCH) else None


def in_between(instance: Instance) -> VmtoolError:
    """The error for an instance of which there are two just now."""
    if instance.busy:
        return VmtoolError(f"{instance.name} is being upgraded", hint="wait for the end of `vmtool upgrade "
                           f"{instance.name}`, or end it with Ctrl-C: the old one then goes on alone")
    return interrupted(instance)


def interrupted(instance: Instance) -> VmtoolError:
    """The error when nobody is at work on them any more."""
    return VmtoolError(f"an upgrade of {instance.name} was interrupted", hint="vmtool recover")


def withdraw(state: State, instance: Instance) -> Instance:
    """A person takes back the promise that it runs. First of all, so that nothing starts it in the meantime; a start
    of watch's own is ended by watch, and waited for.

    Returns:
        The instance as it is then.

    Raises:
        VmtoolError: a person's command is starting it, or its upgrade has not come to its end.
    """
    if instance.half_upgraded:
        raise in_between(instance)
    if instance.state == "starting" and not started_by_watch(state, instance):
        raise VmtoolError(f"{instance.name} is starting",
                          hint="end the `vmtool run` that starts it: it undoes everything")
    mark_stopping(instance)
    end = time.monotonic() + ABORTED_WITHIN
    while started_by_watch(state, instance := read_instance(state, instance.name)) and time.monotonic() < end:
        time.sleep(0.2)
    mark_stopping(instance)  # that start may have taken the mark for one of before
    return instance


class Withdrawal:
    """A promise that is being taken back: given up before it is final, it holds again.

    Args:
        instance: as it is, and once it is withdrawn as it is then.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def finish(self) -> None:
        """From now on it is final, also when another command gave its own up meanwhile."""
        mark_stopped(self.instance)


@contextlib.contextmanager
def withdrawing(state: State, instance: Instance) -> Iterator[Withdrawal]:
    """Withdraw; when what follows is given up before it is final, such as by Ctrl-C or a kill, the promise holds
    again."""
    withdrawal = Withdrawal(instance)
    try:
        withdrawal.instance = withdraw(state, instance)
        yield withdrawal
        withdrawal.finish()
    except BaseException:
        # The mark of another command, or one that is final, is not removed.
        if daemons.living(instance.paths.stopped, certain=True) == os.getpid():
            files.remove(instance.paths.stopped)
        raise
