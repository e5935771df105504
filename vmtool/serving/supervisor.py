"""Keeps the engine running: starts it, notices its end, starts it again as long as its policy says so."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.serving.child import Child, clear_files, describe
from vmtool.serving.events import FINISHED, event_text
from vmtool.serving.restarts import RestartPolicy, Restarts

if TYPE_CHECKING:
    from vmtool.serving.encrypted.agent import KeyAgent
    from vmtool.serving.front import Engine

POLL = 0.2


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
        self.finished = False
        self.child = self.start()

    def start(self) -> Child:
        """Start it; the socket of one that was killed would be in its way."""
        self.socket.unlink(missing_ok=True)
        clear_files(self.socket)
        self.started = time.monotonic()
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
        answering = asyncio.create_task(self._answers(engine))
        await self.child.ended.wait()
        if answering.cancel():
            await asyncio.wait({answering})
            if engine.answered is not None:  # to somebody else, a moment before it died
                self._say_answers(engine)
        return None if engine.answered is None else time.monotonic() - engine.answered

    async def _answers(self, engine: Engine) -> None:
        while not await engine.up():
            await asyncio.sleep(POLL)
        self._say_answers(engine)

    def _say_answers(self, engine: Engine) -> None:
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
