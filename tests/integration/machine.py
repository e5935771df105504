"""What a test must leave as it found it, and how tests call vmtool."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.apart import other_test_processes, started_by_others

VMTOOL = str(Path(sys.executable).with_name("vmtool"))
OURS = re.compile(r"^\S*(containerd|containerd-shim-runc-v2|runc|ctr) |vllm\.entrypoints|vmtool\.serving|^/usr/lib/cni"
                  r"|guest=vmtool-")
# The first `ip netns add` of a machine mounts /run/netns on itself, for all and for good.
MOUNTS = re.compile(r"netns/.|test-state|containerd|/run/vmtool/[0-9a-f]{8}/")
COUNTERS = re.compile(r"\[\d+:\d+\]|^#.*$", re.MULTILINE)


@dataclass(frozen=True)
class Vmtool:
    """vmtool with a state directory of its own."""

    state: Path

    def argv(self, *words: str | Path) -> list[str]:
        return [VMTOOL, "--state-dir", str(self.state), *map(str, words)]

    def __call__(self, *words: str | Path, status: int | None = 0, timeout: float = 300) -> Result:
        """Run it; fail when the exit status is another than `status` (None: whatever)."""
        done = subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL)
        if status is not None:
            assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Result(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Result:
    """What vmtool printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def output(*argv: str) -> str:
    """A program's standard output; empty when it fails."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout


def kill_containerd(tool: Vmtool) -> None:
    """End its private containerd as a restart of the machine does."""
    for pid in output("pgrep", "-f", f"^[^ ]*containerd --config {tool.state}/").split():
        os.kill(int(pid), signal.SIGKILL)


def footprint() -> dict[str, Any]:
    """Everything outside the state directory that a launch touches."""
    settle()
    tables = {table: COUNTERS.sub("", output("iptables-save", "-t", table)).split("\n") for table in ("nat", "filter")}
    return {
        "netns": sorted(os.listdir("/var/run/netns")) if os.path.isdir("/var/run/netns") else [],
        "links": sorted(line.split()[0].partition("@")[0] for line in output("ip", "-br", "link").splitlines()),
        "routes": sorted(output("ip", "-4", "route", "show", "table", "all").splitlines()),
        "mounts": sorted(point for line in Path("/proc/mounts").read_text().splitlines()
                         for point in [line.split()[1]] if MOUNTS.search(point)),
        "iptables": {table: sorted(line for line in lines if line and not line.startswith(":")) +
                     sorted(line.split()[0] for line in lines if line.startswith(":CNI"))
                     for table, lines in tables.items()},
        "processes": sorted(processes_that_stay().values()),
        "leases": sorted(map(str, Path("/var/lib/cni").rglob("*"))),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("**/vmtool*")),
        "run": sorted(str(path) for path in Path("/run/vmtool").glob("[0-9a-f]*")),
        "loops": output("losetup", "-a"),
    }


def processes_now() -> dict[str, str]:
    """Pid -> command line of what looks like ours; not of another checkout, which others may use at the same time, and
    not of the tests that run beside these."""
    found = {pid: argv for pid in os.listdir("/proc") if pid.isdigit() for argv in [command(pid)]
             if OURS.search(argv) and not (".venv/bin/python" in argv and sys.prefix not in argv)}
    others = other_test_processes() if found else set()
    return {pid: argv for pid, argv in found.items() if not started_by_others(pid, others)}


def processes_that_stay() -> dict[str, str]:
    """What is left behind stays; what is gone a moment later is of somebody else."""
    if found := processes_now():
        time.sleep(0.2)
        seen = processes_now()
        found = {pid: argv for pid, argv in seen.items() if found.get(pid) == argv}
    return found


def settle() -> None:
    """Wait a little for a pair whose namespace was deleted: the kernel removes it a moment later."""
    end = time.monotonic() + 60
    while "veth" in output("ip", "-br", "link", "show", "nomaster") and time.monotonic() < end:
        time.sleep(0.02)


def command(pid: str) -> str:
    """A process's command line; empty for a zombie or one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def until(true: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Look until it is true; `what` is what is wrong when it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def health(port: int) -> int:
    """The status of /health at a published port; 0 when there is no answer."""
    return int(output("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                      f"http://127.0.0.1:{port}/health") or 0)
