"""Keeps the engine running: starts it, notices its end, starts it again as long as its policy says so."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.serving.child import Child, clear_files, describe
from vmtool.serving.ends import ends_of
from vmtool.serving.events import FINISHED, event_text
from vmtool.serving.restarts import RestartPolicy, Restarts

if TYPE_CHECKING:
    from vmtool.serving.encrypted.agent import KeyAgent
    from vmtool.serving.front import Engine

POLL = 0.2
# Seconds in which an engine that has lost one of its processes may say that it cannot serve without it.
LOST = 3.0


class Supervisor:
    """One engine after the other.

    Args:
        name: what it is called to a person.
        command: its command line.
        socket: where it listens.
        say: receives lines for the log.
        environment: the engine's, whole; None for this process's own.
        agent: gives the workers of each engine the keys of an encrypted model.

    Attributes:
        finished: it has come to an end that is no failure, as its policy counts.
    """

    def __init__(self, name: str, command: tuple[str, ...], socket: Path, policy: RestartPolicy,
                 say: Callable[[str], None], environment: Mapping[str, str] | None = None,
                 agent: KeyAgent | None = None) -> None:
        self.name, self.command, self.socket, self.say = name, command, socket, say
        self.environment, self.agent = environment, agent
        self.restarts = Restarts(policy)
        self.took = 0.0
        self.started = 0.0
        self.finished, self.reported = False, False
        self.child = self.start()

    def start(self) -> Child:
        """Start it; the socket of one that was killed would be in its way."""
        self.socket.unlink(missing_ok=True)
        clear_files(self.socket)
        self.started, self.reported = time.monotonic(), False
        self.child = Child(self.name, self.command, self.environment)
        if self.agent:
            self.agent.open(self.child.process.pid)
        return self.child

    def reap(self) -> None:
        """For SIGCHLD."""
        self.child.reap()

    async def keep(self, engine: Engine) -> str:
        """Start it again whenever it ends; why that is over, in words, when it is."""
        while True:
            served = await self._run(engine)
            how = describe(self.child.status)
            if left := await self.child.clear():
                self.say(f"{len(left)} processes of {self.name} survive SIGKILL")
            code = os.waitstatus_to_exitcode(self.child.status)
            wait = self.restarts.next_wait(code, served)
            if wait is None:
                return self._end(how, code)
            self.say(event_text(time.time(), "server-died", how=how, served=round(served or 0.0, 1),
                                restart=self.restarts.total, row=self.restarts.row, wait=wait))
            self.say(f"{self.name} died: {how}; it is started again in {wait:g} s")
            engine.restarting(wait + self.took)
            await asyncio.sleep(wait)
            try:
                self.start()
            except OSError as error:  # such as no memory for a process: one more end in the row
                self.say(f"{self.name} cannot be started: {error.strerror}")

    async def stop(self, grace: float) -> None:
        """End it."""
        if self.agent:
            self.agent.end()
        await self.child.stop(grace, self.say)

    async def _run(self, engine: Engine) -> float | None:
        """Until it ends: the seconds since it answered, or None when it never did."""
        looking = asyncio.create_task(self._look(engine))
        try:
            await self.child.ended.wait()
        finally:
            looking.cancel()
        await asyncio.wait({looking})
        if engine.answered is not None and not self.reported:  # to somebody else, a moment before it died
            self._say_answers(engine)
        return None if engine.answered is None else time.monotonic() - engine.answered

    async def _look(self, engine: Engine) -> None:
        """Until it answers, and then until it cannot any more.

        vLLM checks its engine core each 5 s, and ends in its own time; so what is broken is ended here.
        """
        while not await engine.up():
            await asyncio.sleep(POLL)
        self._say_answers(engine)
        with ends_of(self.child.workers()) as ended:
            while True:
                await ended.wait()
                ended.clear()
                end = time.monotonic() + LOST
                while time.monotonic() < end:
                    if not await engine.up() and engine.broken:
                        self.say(f"a process of {self.name} has ended, without which it does not serve: it is ended")
                        self.child.signal(signal.SIGKILL)
                        return
                    await asyncio.sleep(POLL)

    def _say_answers(self, engine: Engine) -> None:
        self.reported = True
        self.took, engine.phase = (engine.answered or time.monotonic()) - self.started, "not answering"
        self.say(f"{self.name} answers")
        if self.restarts.total:
            self.say(event_text(time.time(), "server-restarted", restart=self.restarts.total,
                                seconds=round(self.took, 2)))

    def _end(self, how: str, code: int) -> str:
        if self.restarts.proven and not code and self.restarts.policy.policy == "on-failure":
            self.finished = True
            self.say(event_text(time.time(), FINISHED, how=how))
            return f"{self.name} ended: {how}, which is no failure"
        if self.restarts.total:
            self.say(event_text(time.time(), "server-given-up", how=how, row=self.restarts.row))
        tries = f" after {self.restarts.row} restarts in a row" if self.restarts.row else ""
        return f"{self.name} died{tries}: {how}"
