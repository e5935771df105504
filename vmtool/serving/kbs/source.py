"""Where the master key of an encrypted model comes from, when a broker has it: the data hub, else an exchange."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.kbs.attesters import find_attester
from vmtool.serving.kbs.broker_source import BrokerSource
from vmtool.serving.kbs.errors import NO_KEY, KeyNotReleased
from vmtool.serving.kbs.exchange import fetch
from vmtool.serving.kbs.guest_agent import find_agent
from vmtool.serving.kbs.http_calls import HttpServer


@dataclass(frozen=True)
class ReleasedKey:
    """A source of the entrypoint's: a key that a broker releases.

    Args:
        say: receives lines for the log.
    """

    source: BrokerSource
    say: Callable[[str], None]

    async def read(self) -> bytes:
        """The key; while it is waited for, the process can be stopped.

        Raises:
            Untrusted: there is none, with the step at which it failed.
        """
        try:
            return await _beside(lambda: read_key(self.source, self.say))
        except KeyNotReleased as error:
            raise Untrusted(f"{NO_KEY}: {error}") from None


async def _beside(work: Callable[[], bytes]) -> bytes:
    """Its result, from a thread that holds up no end: one of asyncio's own would be waited for, until the broker's
    last answer is late."""
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            found: bytes | BaseException = work()
        except BaseException as error:  # also a panic of a library in Rust; raised in the waiting task
            found = error
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(_finish, done, found)

    threading.Thread(target=run, name="key broker", daemon=True).start()
    found: bytes = await done
    return found


def _finish(done: asyncio.Future[bytes], found: bytes | BaseException) -> None:
    if done.cancelled():
        return
    if isinstance(found, BaseException):
        done.set_exception(found)
    else:
        done.set_result(found)


def read_key(source: BrokerSource, say: Callable[[str], None]) -> bytes:
    """The key's bytes: the text of a key file.

    Raises:
        KeyNotReleased: at which step, and why.
    """
    agent = find_agent(source.hub)
    if agent and agent.resources:
        say(f"the guest's data hub is asked for the key {source.resource}")
        return agent.resource(source.resource)
    if not source.url:
        raise KeyNotReleased("data hub", f"nothing gives resources at {source.hub}", "name a broker by its address")
    attester = find_attester(agent, allow_unconfidential=source.allow_unconfidential)
    say(f"{source.url} is asked for the key {source.resource}; evidence is by {attester.title}")
    return fetch(HttpServer(source.url, source.ca, source.seconds), source.resource, attester, source.init_data)
