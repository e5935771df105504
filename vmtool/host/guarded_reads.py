"""Reading and opening files that may never answer, in a child process that is left behind then."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from vmtool import procfs
from vmtool.foreign import parse_json
from vmtool.host.uninterruptible import detach

PIECE = 64 << 10
# How many times the deadline a child may take that could go on if it got a processor.
LATE = 10


def is_busy(path: str) -> str | None:
    """"busy" when a VFIO group's node is open: it can be opened once (vfio_group_fops_open in drivers/vfio/group.c).
    Opening it does nothing else."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return "busy" if error.errno == errno.EBUSY else None
    return None


def read_with_deadline(paths: Sequence[str], read: Callable[[str], str | None],
                       deadline: float) -> dict[str, str | None]:
    """Read files one after the other; one that does not answer is skipped after `deadline` seconds, or `LATE` times as
    many while its reader waits for a processor only.

    One child reads them all. When it hangs, another goes on with the rest.
    """
    found: dict[str, str | None] = {}
    left = list(paths)
    while left:
        texts = _batch(left, read, deadline)
        found |= dict(zip(left, texts, strict=False))
        left = left[len(texts) + 1:]
    return found


def _batch(paths: Sequence[str], read: Callable[[str], str | None], deadline: float) -> list[str | None]:
    """The texts up to the first file that does not answer."""
    start, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(paths, read, end)
    os.close(end)
    reported = b""
    try:
        while _has_answered(start, pid, deadline):
            piece = os.read(start, PIECE)
            if not piece:
                os.waitpid(pid, 0)
                break
            reported += piece
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)  # in an uninterruptible sleep it stays; init will collect it
    finally:
        os.close(start)
    return [parse_json(line) for line in reported.split(b"\n")[:-1]]


def _has_answered(start: int, pid: int, deadline: float) -> bool:
    """Whether there is more to read, or the end of it. A busy machine lets a child wait that could go on (state R of
    proc(5)); one that waits for what it reads does so in another state."""
    for _ in range(LATE):
        if select.select([start], [], [], deadline)[0]:
            return True
        if procfs.state_of(Path(f"/proc/{pid}/stat").read_text(errors="replace")) != "R":
            break
    return bool(select.select([start], [], [], 0)[0])


def _child(paths: Sequence[str], read: Callable[[str], str | None], end: int) -> NoReturn:
    try:
        detach(end)
        for path in paths:
            os.write(end, json.dumps(read(path)).encode() + b"\n")
    finally:
        os._exit(0)
