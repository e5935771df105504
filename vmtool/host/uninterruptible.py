"""A child process that may hang for good: it must hold nothing of vmtool's, no lock, no terminal, no pipe."""

from __future__ import annotations

import ctypes
import os
import signal

DESCRIPTORS = 4096
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def detach(kept: int) -> None:
    """To be called in the child: close every descriptor but `kept`, leave the session, die with the parent."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.closerange(3, kept)
    os.closerange(kept + 1, DESCRIPTORS)
