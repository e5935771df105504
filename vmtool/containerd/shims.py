"""The end of a task of containerd's, whatever state a killed `ctr` left it in."""

from __future__ import annotations

import contextlib
import itertools
import os
import posixpath
import signal
import time
from typing import IO

from vmtool.errors import VmtoolError
from vmtool.host import processes
from vmtool.host.local import Machine
from vmtool.machine import Reader
from vmtool.plan import EndTask

GONE = ("not found", "does not exist")
PAUSE = 0.2


def end_task(action: EndTask, log: IO[str], reader: Reader | None = None) -> None:
    """Delete the task until neither it nor its shim is there.

    Raises:
        VmtoolError: containerd does not delete it, or the shim stays.
    """
    reader = reader or Machine()
    begun = time.monotonic()
    while True:
        result = processes.run(action.argv, deadline=60.0, log=log)
        shims = read_shims(reader, action)
        if not shims:
            break
        waited = time.monotonic() - begun
        if waited > action.deadline:
            raise VmtoolError(f"the shim (pid {shims[0]}) of {action.name} does not end",
                              hint="try again; look at dmesg")
        if waited > action.deadline / 3:
            # containerd notices, and clears what the shim had started.
            for pid in shims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)
    if not any(text in result.out + result.err for text in GONE):
        processes.check(action.argv, result)


def read_shims(reader: Reader, action: EndTask) -> list[int]:
    """The shims of this container and containerd, of whatever runtime."""
    wanted = {("-id", action.name), ("-namespace", action.namespace), ("-address", str(action.socket))}
    found = []
    for pid in sorted(int(entry) for entry in reader.names("/proc") if entry.isdecimal()):
        argv = (reader.text(f"/proc/{pid}/cmdline") or "").split("\0")
        if posixpath.basename(argv[0]).startswith("containerd-shim") and wanted <= set(itertools.pairwise(argv)):
            found.append(pid)
    return found
