"""Processes whose leader has exited (proc(5))."""

from __future__ import annotations


def stat(pid: int, state: str, threads: int = 1, started: int = 77) -> str:
    """The text of /proc/PID/stat of a program whose name is no help."""
    return f"{pid} (a) Z 1 (b) {state} 1 {pid} {pid} 0 -1 4194304 {'0 ' * 8}20 0 {threads} 0 {started} 0 0 -1\n"


def exited_leader(pid: int, threads: int = 2) -> dict[str, str]:
    """The texts of one that has exited; where it is not alone, thread PID + 2 lives and PID + 1 has exited too."""
    return {f"/proc/{pid}/stat": stat(pid, "Z", threads), f"/proc/{pid}/cmdline": "",
            f"/proc/{pid}/task/{pid}/stat": stat(pid, "Z", threads),
            **({f"/proc/{pid}/task/{pid + 1}/stat": stat(pid + 1, "X", threads),
                f"/proc/{pid}/task/{pid + 2}/stat": stat(pid + 2, "D", threads)} if threads > 1 else {})}
