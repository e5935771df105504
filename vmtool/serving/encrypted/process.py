"""What keeps a process's memory to itself."""

from __future__ import annotations

import ctypes
import os
import resource

PR_SET_DUMPABLE = 4
# The variable with the path of the key agent's socket, which is no secret.
AGENT = "VMTOOL_MODEL_AGENT"


def keep_memory() -> None:
    """No core dump, and no other process of this user may read this one's memory, files or environment (prctl(2)).

    Each exec makes a process dumpable again, so every one of them does it for itself, as soon as it has a key.
    """
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def leave_no_core() -> None:
    """The same, and no process that this one starts leaves a core, whatever it is."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    keep_memory()


def is_encrypted() -> bool:
    """Whether the model is, so that its keys come from the agent."""
    return AGENT in os.environ
