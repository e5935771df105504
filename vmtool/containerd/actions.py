"""Actions on containerd's tasks."""

from __future__ import annotations

import itertools
import posixpath
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.errors import VmtoolError
from vmtool.facts.process import user_of
from vmtool.machine import check
from vmtool.plan.action import Action

if TYPE_CHECKING:
    from vmtool.machine import Host

GONE = ("not found", "does not exist")
PAUSE = 0.2


@dataclass(frozen=True)
class DeleteTask(Action):
    """Delete a task of containerd's, and wait until its shim is gone: containerd may be making it at this moment, for
    a `ctr` that was killed. A shim that containerd knows nothing of is killed.

    Args:
        socket, namespace: of containerd.
        deadline: seconds; after a third of it the shim is killed.
    """

    socket: Path
    namespace: str
    name: str
    deadline: float = 60.0

    @property
    def argv(self) -> tuple[str, ...]:
        """How `ctr` is asked for it; it fails when there is no task."""
        return ("ctr", "--address", str(self.socket), "--namespace", self.namespace, "task", "delete", "--force",
                self.name)

    def shell(self) -> str:
        shim = shlex.quote(f"^[^ ]*containerd-shim.* -id {self.name}( |$)")
        return f"while {shlex.join(self.argv)}; pgrep -U 0 -f -- {shim}; do sleep 0.2; done"

    def do(self, host: Host) -> None:
        begun = host.now()
        while True:
            result = host.execute(self.argv, deadline=60.0)
            shims = self.shims(host)
            if not shims:
                break
            waited = host.now() - begun
            if waited > self.deadline:
                raise VmtoolError(f"the shim (pid {shims[0]}) of {self.name} does not end",
                                  hint="try again; look at dmesg")
            if waited > self.deadline / 3:
                # containerd notices, and clears what the shim had started.
                for pid in shims:
                    host.kill(pid, signal.SIGKILL)
            host.sleep(PAUSE)
        if not any(text in result.out + result.err for text in GONE):
            check(self.argv, result)

    def shims(self, host: Host) -> list[int]:
        """The shims of this container and containerd, of whatever runtime."""
        wanted = {("-id", self.name), ("-namespace", self.namespace), ("-address", str(self.socket))}
        found = []
        for pid in sorted(int(entry) for entry in host.names("/proc") if entry.isdecimal()):
            argv = (host.text(f"/proc/{pid}/cmdline") or "").split("\0")
            # Root's only: any user can start a program with such arguments.
            if user_of(host, pid) != 0:
                continue
            if posixpath.basename(argv[0]).startswith("containerd-shim") and wanted <= set(itertools.pairwise(argv)):
                found.append(pid)
        return found
