"""What /proc/PID/status (proc(5)) must say of a workload's first process."""

from __future__ import annotations

from collections.abc import Mapping

from vmtool.claims import Verdict

NOTHING = "0000000000000000"
WANTED = {"CapEff": NOTHING, "CapPrm": NOTHING, "CapBnd": NOTHING, "NoNewPrivs": "1", "Seccomp": "2"}


def judge_status(status: Mapping[str, str]) -> tuple[Verdict, str]:
    """Whether it is as it must be, and what it is: no capability, no new privileges, a seccomp filter, not root."""
    wrong = [f"{name}={status.get(name, '?')}" for name, value in WANTED.items()
             if status.get(name, "").strip() != value]
    users = status.get("Uid", "").split()
    if not users or "0" in users:
        wrong.append("it runs as root")
    if wrong:
        return "failed", ", ".join(wrong)
    return "proven", f"no capability, no new privileges, seccomp, uid {users[0]}"
