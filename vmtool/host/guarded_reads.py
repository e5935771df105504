"""Reading and opening files that may never answer, in a child process that is left behind then."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from vmtool.foreign import parse_json
from vmtool.host.uninterruptible import detach

PIECE = 64 << 10


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
    """Read files one after the other; one that does not answer is skipped after `deadline` seconds.

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
        until = time.monotonic() + deadline
        while select.select([start], [], [], max(0.0, until - time.monotonic()))[0]:
            piece = os.read(start, PIECE)
            if not piece:
                os.waitpid(pid, 0)
                break
            reported, until = reported + piece, time.monotonic() + deadline
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)  # in an uninterruptible sleep it stays; init will collect it
    finally:
        os.close(start)
    return [parse_json(line) for line in reported.split(b"\n")[:-1]]


def _child(paths: Sequence[str], read: Callable[[str], str | None], end: int) -> NoReturn:
    try:
        detach(end)
        for path in paths:
            os.write(end, json.dumps(read(path)).encode() + b"\n")
    finally:
        os._exit(0)
