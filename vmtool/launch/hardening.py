"""What /proc/PID/status (proc(5)) must say of a workload's first process."""

from __future__ import annotations

from collections.abc import Mapping

NOTHING = "0000000000000000"
WANTED = {"CapEff": NOTHING, "CapPrm": NOTHING, "CapBnd": NOTHING, "NoNewPrivs": "1", "Seccomp": "2"}


def wrong_of(status: Mapping[str, str]) -> list[str]:
    """What is otherwise than it must be: no capability, no new privileges, a seccomp filter, not root."""
    wrong = [f"{name}={status.get(name, '?')}" for name, value in WANTED.items()
             if status.get(name, "").strip() != value]
    return wrong + (["it runs as root"] if "0" in status.get("Uid", "0").split() else [])
