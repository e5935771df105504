"""Typing a command line of a page, and what is not as the page says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests import page_commands as runs
from tests import pages as d
from tests.integration.machine import VMTOOL


def bash(line: str, directory: Path, state: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Type a line where `vmtool` is on the PATH, as README says."""
    env = {**os.environ, "PATH": f"{Path(VMTOOL).parent}:{os.environ['PATH']}", "VMTOOL_STATE_DIR": str(state)}
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=directory, env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout, check=False)


def wrong(command: d.Command, done: subprocess.CompletedProcess[str]) -> str:
    """What is not as the page says; empty when all is."""
    printed, shown = done.stdout + done.stderr, command.output if runs.SAME_EVERYWHERE.match(command.text) else ()
    missing = [line for line in shown if line not in printed]
    if done.returncode == command.status:
        return f"{command.place}: {command.text}: does not print {missing}:\n{printed}" if missing else ""
    return (f"{command.place}: {command.text}: exit code {done.returncode}, the page says {command.status}\n"
            f"{done.stdout[-500:]}{done.stderr[-1000:]}")
