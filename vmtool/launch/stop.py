"""Ending an instance's process, and nothing else of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vmtool.cli.apply_plan import authorise, logged_host, working_host
from vmtool.cli.output import Progress
from vmtool.endpoint.actions import Drain
from vmtool.errors import VmtoolError
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.host import locks, signals
from vmtool.host.event_log import record
from vmtool.host.local import LocalMachine
from vmtool.instance.instance import Instance, Paths, subject_of
from vmtool.instance.read import refreshed
from vmtool.launch.stages import launcher_of
from vmtool.machine import Host, Reader
from vmtool.paths import State
from vmtool.plan import Plan, Step

# Seconds that answers may take to end; an upgrade, where nobody waits for anything, gives them more.
DRAIN = 30.0


@dataclass(frozen=True)
class Drained:
    """An instance that has had its time to answer, as long as nothing is new.

    Args:
        drain: for the seconds that are left of that time; None when nothing is waited for.
        problem: why it could not be asked to wait. It is stopped all the same: a front that hangs must not keep a
            person from it.
    """

    directory: Path
    drain: Drain | None
    seconds: float
    by: str
    problem: str = ""

    def close(self, host: Host) -> int:
        """Once nothing but its end follows: a lock may have been waited for until its front was open again. Close it,
        and give what is new the time that is left.

        Returns:
            How many answers are not over by then, as far as it is known.
        """
        left = self.drain.wait(host) or 0 if self.drain else 0
        if left:
            record(self.directory, "cut-off", by=self.by, answers=left, after=self.seconds)
        return left


def drain_instance(state: State, instance: Instance, seconds: float | None, by: str) -> Drained:
    """Let it answer nothing new, and wait until what it answers has come to its end.

    Args:
        seconds: how long at most; None for what its spec says.
    """
    paths, directory = instance.paths, instance.paths.directory
    at_once = Drained(directory, None, 0.0, by)
    if not instance.serves:
        return at_once
    seconds = usual_drain(LocalMachine(), paths) if seconds is None else seconds
    if seconds and not instance.known().manage:
        return replace(at_once, problem=f"an earlier vmtool started {instance.name}, whose front cannot wait")
    drain = Drain(instance.known().managed, paths.manager, paths.pidfile, seconds, close=True)
    title = f"let its answers come to their end, at most {seconds:.0f} s"
    authorise(Plan(subject_of(instance.name), directory, (Step(title, (drain,) if seconds else (), waits_only=True),)))
    if not seconds:
        return at_once
    started = time.monotonic()
    if _wait(state, directory, drain, title, by) is None:
        return replace(at_once, problem=f"the front of {instance.name} does not answer this host")
    left = max(0.0, seconds - (time.monotonic() - started))
    return Drained(directory, replace(drain, deadline=left), seconds, by)


def _wait(state: State, directory: Path, drain: Drain, title: str, by: str) -> int | None:
    """With progress, and not under the host's lock, which others wait for."""
    progress, started = Progress(), time.monotonic()
    progress.step(title)
    try:
        with (signals.interrupting(), locks.Lock(state.lock(directory), by),
              logged_host(directory, progress.note) as host):
            left = drain.wait(host)
        progress.done(time.monotonic() - started)
        return left
    finally:
        progress.close()


def usual_drain(reader: Reader, paths: Paths) -> float:
    """What the spec says; a damaged one keeps nobody from stopping it."""
    try:
        return float(parse_json(reader.text(str(paths.spec)) or "{}")["spec"]["timeouts"]["drain"])
    except (ValueError, LookupError, TypeError):
        return DRAIN


def stop_instance(state: State, instance: Instance, grace: float, *, by: str = "vmtool stop",
                  last: Callable[[Host], None] = lambda host: None) -> None:
    """SIGTERM to the container's first process, SIGKILL after `grace` seconds; a guest of libvirt's is asked to power
    off, and destroyed.

    Args:
        last: called when the locks are held and the signals follow.

    Raises:
        VmtoolError: the process lives on.
    """
    directory, launcher = instance.paths.directory, launcher_of(instance.known().handler)
    politely, by_force = launcher.end_politely(state, instance), launcher.end_by_force(instance)
    plan = Plan(subject_of(instance.name), directory, (Step("end the process", politely), Step("by force", by_force)))
    with working_host(state, plan, f"{by} {instance.name}") as host:
        # Looked up now: since the caller looked it may have ended, and its pid be another's.
        pid = refreshed(state, instance).pid or 0
        started = host.start_time(pid)
        last(host)
        record(directory, "stopping", by=by)
        for actions, wait in ((politely, grace), (by_force, 10.0)):
            for action in actions:
                action.do(host)
            end = host.now() + wait
            # By pid and start time: the pid file may be gone.
            while started and host.start_time(pid) == started:
                if host.now() > end:
                    break
                host.sleep(0.05)
            else:
                record(directory, "stopped", by=by)
                return
    raise VmtoolError(f"{instance.name}: process {pid} survives SIGKILL", hint="look at dmesg: it may hang in "
                      "the kernel", log=str(directory / "log" / "host.log"))
