"""A module of vmtool's that kills itself with SIGKILL in its Nth change of a file.

    python killed_write.py N MODULE ARGUMENTS...

A write is killed half done. What is patched is what the modules that change images use.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Any

deadline = int(sys.argv.pop(1))
done = 0


def killing(name: str) -> None:
    real = getattr(os, name)

    def call(*arguments: Any) -> Any:
        global done
        done += 1
        if done == deadline:
            if name == "pwrite":
                real(arguments[0], bytes(arguments[1])[:len(arguments[1]) // 2], arguments[2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(os, name, call)


for name in ("pwrite", "ftruncate", "fsync", "rename", "replace", "unlink"):
    killing(name)
sys.argv.pop(0)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
