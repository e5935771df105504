"""Programs that outlive vmtool, found again by pid and start time."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

from vmtool.errors import ProgramFailed
from vmtool.host import files, processes
from vmtool.plan import StartDaemon, StopDaemon


def living(pidfile: Path) -> int | None:
    """The pid in the file when that very process still lives.

    A file with no start time (other programs write such) is believed when the process is older than the file.
    """
    try:
        pid, _, started = pidfile.read_text().strip().partition(" ")
        now = processes.start_time(int(pid))
        if now is None or (started and now != started):
            return None
        if not started and processes.started_at(now) > pidfile.stat().st_mtime + 1:
            return None
    except (OSError, ValueError):
        return None
    return int(pid)


def note(pidfile: Path) -> None:
    """Add the start time to a pid file. A process that is gone already stays without: it is not living either."""
    pid = living(pidfile)
    if pid:
        files.write(pidfile, f"{pid} {processes.start_time(pid)}\n")


def answers(path: Path) -> bool:
    """Whether something accepts connections on the Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def start(action: StartDaemon) -> None:
    """Start the daemon unless it lives, and wait until its socket answers.

    Raises:
        ProgramFailed: it ended, or its socket did not answer in time; the last log lines are given.
    """
    child = None if living(action.pidfile) else _launch(action)
    end = time.monotonic() + action.deadline
    while not answers(action.socket):
        if (child and child.poll() is not None) or time.monotonic() > end:
            raise ProgramFailed(f"{shlex.join(action.argv)} does not answer on {action.socket}",
                                details=action.log.read_text(errors="replace").splitlines()[-8:], log=str(action.log))
        time.sleep(0.02)


def _launch(action: StartDaemon) -> subprocess.Popen[bytes]:
    executable = processes.which(action.argv[0]) or action.argv[0]

    def write_pidfile() -> None:
        # In the child, before exec: a vmtool killed right now still leaves a pid file that `recover` can follow.
        files.write(action.pidfile, f"{os.getpid()} {processes.start_time(os.getpid())}\n")

    with open(action.log, "ab") as log:
        return subprocess.Popen([executable, *action.argv[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                env=processes.ENVIRONMENT, start_new_session=True, cwd="/", preexec_fn=write_pidfile)


def stop(action: StopDaemon) -> None:
    """Stop the daemon, unless `users` says that someone still needs it."""
    if action.users.is_dir() and any(action.users.iterdir()):
        return
    pid = living(action.pidfile)
    if pid:
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.kill(pid, number)
            end = time.monotonic() + action.deadline
            while living(action.pidfile) and time.monotonic() < end:
                _reap(pid)
                time.sleep(0.02)
            if not living(action.pidfile):
                break
    files.remove(action.pidfile.parent)


def _reap(pid: int) -> None:
    """Collect the daemon when this very vmtool started it; elsewhere init does."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
