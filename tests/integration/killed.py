"""vmtool that kills itself with SIGKILL right after its Nth journal record: `python killed.py N ARGUMENTS...`.

The journal is written before and after each action, so counting through it stops vmtool at every action.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from vmtool.cli.main import main
from vmtool.engine.journal import Journal

deadline = int(sys.argv.pop(1))
written = 0
real = Journal.write


def write(self: Journal, event: str, **values: Any) -> None:
    global written
    real(self, event, **values)
    written += 1
    if written == deadline:
        os.kill(os.getpid(), signal.SIGKILL)


Journal.write = write  # type: ignore[method-assign]
main()
