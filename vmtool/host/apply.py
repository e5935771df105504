"""Doing a plan, and undoing what a journal tells: the one place where actions become effects."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Protocol

from vmtool import plan as p
from vmtool.errors import Interrupted, ProgramMissing, VerificationFailed, VmtoolError
from vmtool.host import chains, cni, daemons, files, lock, processes, sysfs
from vmtool.host.journal import Journal


class Monitor(Protocol):
    """Is told what goes on; nothing below the CLI prints."""

    def step(self, title: str) -> None:
        """A step starts."""

    def skipped(self, title: str, why: str) -> None:
        """A step has nothing to do."""

    def note(self, text: str) -> None:
        """Something within the step changed, such as the seconds waited."""

    def done(self, seconds: float) -> None:
        """The step was done."""


def apply(make: Callable[[], p.Plan], monitor: Monitor, *, host_lock: Path, doing: str, keep: bool = False) -> p.Plan:
    """Make a plan and do every step of it; on failure, Ctrl-C or SIGTERM go all the way back (unless `keep`).

    The caller holds the lock of the plan's subject. The host's lock is taken before the plan is made, so that the
    facts are still true when it is done, and is let go before the steps that only wait: a model that loads for
    minutes blocks nobody.

    Returns:
        The plan. When it changes nothing, nothing is written.

    Raises:
        VmtoolError: a step failed; everything was undone, or the error's details say what was not.
    """
    with lock.Lock(host_lock, doing, wait=60.0) as host:
        plan = make()
        if plan.changes:
            with open_log(plan.directory) as log, signals_interrupt():
                _do(plan, host, monitor, log, keep)
    return plan


def _do(plan: p.Plan, host: lock.Lock, monitor: Monitor, log: IO[str], keep: bool) -> None:
    journal = Journal(plan.directory)
    journal.start(plan.subject)
    files.write(plan.directory / "plan.json", json.dumps(p.to_json(plan), indent=1) + "\n")
    try:
        _do_steps([step for step in plan.steps if not step.waits], journal, monitor, log)
        host.let_go()
        _do_steps([step for step in plan.steps if step.waits], journal, monitor, log)
        journal.write("applied")
    except BaseException as error:
        journal.write("failed", error=str(error) or type(error).__name__)
        if keep:
            raise
        monitor.step("undo everything")
        host.take()
        problems = undo(plan.directory, monitor)
        if problems and isinstance(error, VmtoolError):
            error.details += ("not undone:", *problems)
            error.hint = "vmtool recover"
        raise


def undo(directory: Path, monitor: Monitor) -> list[str]:
    """Go the way back of every step that the journal in `directory` tells of, newest first.

    Every undo action is tried, also after another has failed. A step is marked as undone only when all of its
    actions worked, so that a later call finds the rest.

    Returns:
        What could not be undone, a line each; empty when nothing is left.
    """
    journal = Journal(directory)
    story = journal.story()
    problems: list[str] = []
    with open_log(directory) as log, signals_wait():
        for entry in reversed(story.entries):
            monitor.note(f"undo: {entry.title}")
            failures = [failure for action in entry.undo if (failure := _undo_action(action, log))]
            problems += [f"{entry.title}: {failure}" for failure in failures]
            if not failures:
                journal.write("undone", step=entry.number)
    if not problems and story.state != "none":
        journal.write("clean")
    return problems


def perform(action: p.Action, log: IO[str], note: Callable[[str], None]) -> None:  # noqa: C901 (one flat case per kind)
    """Do one action.

    Raises:
        VmtoolError: it failed.
    """
    # The journal can be replayed by a version with the same vocabulary only, so an exhaustive match is the contract.
    match action:
        case p.Run():
            _run(action, log)
        case p.Expect():
            _expect(action, log)
        case p.StartDaemon():
            daemons.start(action)
        case p.StopDaemon():
            daemons.stop(action)
        case p.MakeDir():
            files.make_dir(action.path, mode=action.mode, uid=action.uid)
        case p.WriteFile():
            files.write(action.path, action.text, mode=action.mode)
        case p.CopySecret():
            files.copy_secret(action.path, action.source, action.uid)
        case p.Remove():
            files.remove(action.path)
        case p.CallPlugin():
            cni.call(action, log)
        case p.RemoveBridge():
            cni.remove_bridge(action.name, log)
        case p.RemoveChain():
            chains.remove(action.table, action.chain, log)
        case p.SweepChains():
            chains.sweep(action, log)
        case p.WriteSysfs():
            sysfs.write(action, log)
        case p.ExpectDriver():
            sysfs.expect(action)
        case p.AwaitHealth() | p.AskCanary():
            _serving(action, note)
        case p.ExpectTee():
            _guest(action)


def _do_steps(steps: Iterable[p.Step], journal: Journal, monitor: Monitor, log: IO[str]) -> None:
    for step in steps:
        if step.skip:
            monitor.skipped(step.title, step.skip)
            continue
        monitor.step(step.title)
        journal.step(step)
        started = time.monotonic()
        for action in step.actions:
            journal.write("begin", shell=action.shell())
            begun = time.monotonic()
            try:
                perform(action, log, monitor.note)
            except OSError as error:
                raise VmtoolError(f"{step.title}: {error.strerror}: {error.filename or action.shell()}") from error
            journal.write("end", seconds=round(time.monotonic() - begun, 4))
        monitor.done(time.monotonic() - started)


def _undo_action(action: p.Action, log: IO[str]) -> str:
    """Do an undo action; what went wrong, or nothing."""
    try:
        perform(action, log, lambda text: None)
    except ProgramMissing as error:
        return error.message
    except (VmtoolError, OSError) as error:
        details = error.details[-1:] if isinstance(error, VmtoolError) else ()
        return ": ".join((str(error), *details))
    return ""


def _run(action: p.Run, log: IO[str]) -> None:
    result = processes.run(action.argv, deadline=action.deadline, env=action.env, stdin=action.stdin,
                           stdout=action.stdout, log=log)
    if not any(text in result.out + result.err for text in action.gone):
        processes.check(action.argv, result, action.hint)


def _expect(action: p.Expect, log: IO[str]) -> None:
    result = processes.run(action.argv, deadline=action.deadline, log=log)
    processes.check(action.argv, result)
    if action.line not in result.out.splitlines():
        raise VerificationFailed(f"{' '.join(action.argv)}: the line {action.line!r} is missing", hint=action.hint)


def _serving(action: p.AwaitHealth | p.AskCanary, note: Callable[[str], None]) -> None:
    from vmtool.host import serving  # httpx is heavy, and most plans end before it is needed

    if isinstance(action, p.AwaitHealth):
        serving.await_health(action, note)
    else:
        serving.ask_canary(action)


def _guest(action: p.ExpectTee) -> None:
    from vmtool.host import guests  # only a launch of a guest needs it

    guests.expect_tee(action)


@contextlib.contextmanager
def open_log(directory: Path) -> Iterator[IO[str]]:
    """The host side's log of a subject: every command line with its output."""
    path = directory / "log" / "host.log"
    files.make_private(path.parent)
    with open(path, "a", encoding="utf-8") as log:
        path.chmod(0o600)
        yield log


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`, so that every `finally` and the undo run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    with _handlers(interrupt):
        yield


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Let the same signals pass: half an undo is worse than a late one, and each undo action has a deadline.

    Not SIG_IGN, which children would inherit.
    """
    with _handlers(lambda number, frame: None):
        yield


@contextlib.contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


