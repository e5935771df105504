"""Where the master key of an encrypted model comes from, when a broker has it: the data hub, else an exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmtool.serving.kbs.attesters import find_attester
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.exchange import fetch
from vmtool.serving.kbs.guest_agent import URL, find_agent
from vmtool.serving.kbs.http_calls import HttpServer


@dataclass(frozen=True)
class BrokerSource:
    """A key that a broker releases.

    Args:
        resource: its name, such as demo/model/key.
        url: the broker's address; empty when only the guest's data hub is asked, which knows its own.
        ca: PEM file of the only CA that the broker's certificate may lead to.
        allow_unconfidential: take the sample attester where there is no other.
        init_data: TOML file that the host gave the guest, and the guest's evidence is bound to.
        seconds: that each call may take.
        hub: address of the guest's own services.
    """

    resource: str
    url: str = ""
    ca: Path | None = None
    allow_unconfidential: bool = False
    init_data: Path | None = None
    seconds: float = 30.0
    hub: str = URL


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
    return fetch(HttpServer(source.url, source.ca, source.seconds), source.resource, attester, _text(source.init_data))


def _text(path: Path | None) -> str:
    try:
        return path.read_text() if path else ""
    except (OSError, ValueError) as error:
        raise KeyNotReleased("init data", f"{path}: {error}") from None
