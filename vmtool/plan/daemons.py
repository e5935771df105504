"""Actions on programs that outlive vmtool."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.errors import ProgramFailed
from vmtool.frozen import dataclass
from vmtool.plan.action import Action
from vmtool.plan.shell_parts import lives

if TYPE_CHECKING:
    from vmtool.machine import Host

POLL = 0.02


@dataclass(frozen=True)
class StartDaemon(Action):
    """Start a program that outlives vmtool, unless the one in `pidfile` still lives; wait for its socket.

    The pid file holds "PID STARTTIME", so that a reused pid is never taken for the daemon.
    """

    argv: tuple[str, ...]
    pidfile: Path
    log: Path
    socket: Path
    deadline: float = 30.0

    def shell(self) -> str:
        pidfile, log, socket = (shlex.quote(str(path)) for path in (self.pidfile, self.log, self.socket))
        # Before the program is there its shell writes down the pid that it will have, and since when.
        start = (f"umask 077; echo $$ $(cut -d' ' -f22 /proc/$$/stat) > {pidfile}; umask 022; "
                 f"exec {shlex.join(self.argv)}")
        wait = f"until [ -S {socket} ]; do sleep 0.1; done"
        return (f"{lives(self.pidfile)} || setsid sh -c {shlex.quote(start)} < /dev/null >> {log} 2>&1 &\n"
                f"timeout {self.deadline:g} sh -c {shlex.quote(wait)}")

    def do(self, host: Host) -> None:
        if host.living(self.pidfile) is None:
            host.start_daemon(self.argv, self.pidfile, self.log)
        end = host.now() + self.deadline
        while not host.accepts(self.socket):
            if host.living(self.pidfile) is None or host.now() > end:
                lines = (host.text(str(self.log)) or "").splitlines()
                raise ProgramFailed(f"{shlex.join(self.argv)} does not answer on {self.socket}", details=lines[-8:],
                                    log=str(self.log))
            host.sleep(POLL)


@dataclass(frozen=True)
class StopDaemon(Action):
    """Terminate the daemon of `pidfile` politely, then by force; not while the directory `users` has entries.

    The directory of the pid file is the daemon's own on a volatile file system: it goes along.
    """

    pidfile: Path
    users: Path
    deadline: float = 10.0

    def shell(self) -> str:
        users, directory = (shlex.quote(str(path)) for path in (self.users, self.pidfile.parent))
        wait = f"while {lives(self.pidfile)}; do sleep 0.1; done"
        return (f'[ -n "$(ls {users} 2>/dev/null)" ] || {{ '
                f"for signal in TERM KILL; do if {lives(self.pidfile)} && kill -$signal $pid; then "
                f"timeout {self.deadline:g} sh -c {shlex.quote(wait)} || :; fi; done; "
                f"rm -rf --one-file-system {directory}; }}")

    def do(self, host: Host) -> None:
        if host.names(str(self.users)):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if pid := host.living(self.pidfile):
                host.kill(pid, number)
                end = host.now() + self.deadline
                while host.living(self.pidfile) and host.now() < end:
                    host.sleep(POLL)
        host.remove(self.pidfile.parent)


@dataclass(frozen=True)
class RecordPid(Action):
    """Add the process's start time to a pid file that another program wrote, so that it is known for good."""

    pidfile: Path

    def shell(self) -> str:
        file = shlex.quote(str(self.pidfile))
        # What stands before it in `stat` is the program's name, which may have blanks.
        return (f"pid=$(cut -d' ' -f1 {file}) && [ ! -e /proc/$pid ] || "
                f"echo $pid $(sed 's/.*) //' /proc/$pid/stat | cut -d' ' -f20) | install -m 0600 /dev/stdin {file}")

    def do(self, host: Host) -> None:
        # A process that is gone already stays without: it is not living either.
        if pid := host.living(self.pidfile):
            host.write(self.pidfile, f"{pid} {host.start_time(pid)}\n")
