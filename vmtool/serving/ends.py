"""Hearing of the end of processes that are not this one's children, as soon as it comes (pidfd_open(2))."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def ends_of(pids: Iterable[int]) -> Iterator[asyncio.Event]:
    """An event that is set at each end of one of them; of a process that cannot be watched nothing is heard."""
    loop, ended, descriptors = asyncio.get_running_loop(), asyncio.Event(), set[int]()

    def note(descriptor: int) -> None:
        loop.remove_reader(descriptor)
        ended.set()

    try:
        for pid in pids:
            with contextlib.suppress(OSError):
                descriptors.add(descriptor := os.pidfd_open(pid))
                loop.add_reader(descriptor, note, descriptor)
        yield ended
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
            os.close(descriptor)
