"""Talking to the served model: its address, one question, and the answer whole or in pieces."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmtool.endpoint.answers import Answer, error_text, events, join, read_answer, visible
from vmtool.errors import VmtoolError
from vmtool.foreign import parse_json, parse_text_json
from vmtool.frozen import dataclass
from vmtool.machine import Trust

if TYPE_CHECKING:
    from vmtool.machine import Host

POLL = 0.1
DONE = "[DONE]"


@dataclass(frozen=True)
class Server:
    """Where an OpenAI-compatible server listens.

    Args:
        host: an address, or empty when only the CNI result in the file `result` shows it.
        trust: how it is known, when it speaks TLS.
    """

    host: str
    port: int
    result: Path
    trust: Trust | None = None

    def shell(self) -> str:
        host = self.host or f"$(jq -r .ips[0].address {shlex.quote(str(self.result))} | cut -d/ -f1)"
        return f"http{'s' if self.trust else ''}://{host}:{self.port}"

    @property
    def curl(self) -> str:
        """The program, with what it needs to know the server."""
        return shlex.join(("curl", *(self.trust.curl if self.trust else ())))


@dataclass(frozen=True)
class Address:
    """A server's, once it is known."""

    url: str
    trust: Trust | None = None

    def __str__(self) -> str:
        return self.url


def address_of(host: Host, server: Server) -> Address:
    """The server's address; of a container that publishes nothing, from the CNI result.

    Raises:
        VmtoolError: the result file is absent or has no address.
    """
    return Address(f"http{'s' if server.trust else ''}://{host_of(host, server)}:{server.port}", server.trust)


def host_of(host: Host, server: Server) -> str:
    """The address alone.

    Raises:
        VmtoolError: as `address_of`.
    """
    if server.host:
        return server.host
    try:
        found: str = parse_json(host.read(server.result))["ips"][0]["address"].partition("/")[0]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise VmtoolError(f"{server.result}: has no address of the container") from error
    return found


def ask(host: Host, url: Address, key: Path, model: str, prompt: str, *, deadline: float,
        temperature: float = 0.0) -> Answer:
    """The model's answer to one question; whether it is a whole one is the caller's to ask.

    Raises:
        VmtoolError: the server refused, failed, or did not answer within `deadline` seconds.
    """
    status, text = host.request("POST", f"{url}/v1/chat/completions", headers=_headers(host, key),
                                body=_question(model, prompt, temperature), deadline=deadline, trust=url.trust)
    if not status:
        raise VmtoolError(f"{url} did not answer: {text}")
    _check_status(status, text, url)
    return _read(text, "message", url)


def stream(host: Host, url: Address, key: Path, model: str, prompt: str, *, deadline: float,
           temperature: float = 0.0) -> Iterator[str]:
    """The text of the model's answer in pieces, as they are made.

    Raises:
        VmtoolError: as `ask`; or the stream broke off, or what came is not a whole answer.
    """
    question = _question(model, prompt, temperature, stream=True)
    try:
        with host.stream("POST", f"{url}/v1/chat/completions", headers=_headers(host, key), body=question,
                         deadline=deadline, trust=url.trust) as (status, lines):
            if status != 200:
                _check_status(status, "\n".join(lines), url)
            yield from _pieces(lines, url)
    except OSError as error:
        raise VmtoolError(f"{url} broke off: {error or type(error).__name__}") from error


def _pieces(lines: Iterator[str], url: Address) -> Iterator[str]:
    parts: list[Answer] = []
    first = next(lines, "")
    for data in events(itertools.chain([first], lines)):
        if data.strip() == DONE:
            return join(parts).require()
        part = _read(data, "delta", url)
        # What was handed out is not kept, but that there was some.
        parts.append(replace(part, text=visible(part.text)))
        if part.text:
            yield part.text
    if parts:
        raise VmtoolError(f"{url} broke off before the end of the answer")
    raise VmtoolError(f"{url} answered without a stream", details=[error_text(first)] if first else [])


def managed(host: Host, url: Address, manager: Path, path: str, *, deadline: float = 15.0) -> Any:
    """What the front says to the host alone, as a JSON document.

    Raises:
        VmtoolError: it does not answer, or not so.
    """
    status, text = host.request("GET", f"{url}{path}", headers=authorization(host, manager), deadline=deadline,
                                trust=url.trust)
    if not status:
        raise VmtoolError(f"{url} did not answer: {text}")
    _check_status(status, text, url)
    try:
        return parse_json(text)
    except ValueError as error:
        raise VmtoolError(f"{url} answered something that is no JSON", details=[text[:200]]) from error


def drain(host: Host, server: Server, manager: Path, *, close: bool = False) -> int | None:
    """Let a front take leave of its clients; how many connections are left, None when it does not answer. With `close`
    it answers nothing new, and its requests are counted. One of an earlier vmtool cannot: of it the requests are
    counted that it answers."""
    path, counted = ("/close", "requests") if close else ("/drain", "connections")
    try:
        url = address_of(host, server)
        status, text = host.request("PUT", f"{url}{path}", headers=authorization(host, manager), deadline=15.0,
                                    trust=url.trust)
        if status == 404:
            return sum(int(token["in_flight"]) for token in managed(host, url, manager, "/access")["tokens"])
        return int(parse_json(text)[counted]) if status == 200 else None
    except (VmtoolError, ValueError, LookupError, TypeError):
        return None


def models(host: Host, url: Address, key: Path, *, deadline: float) -> Any:
    """What the server says of its models; None when it does not answer, or not in JSON."""
    status, text = host.request("GET", f"{url}/v1/models", headers=_headers(host, key), deadline=deadline,
                                trust=url.trust)
    try:
        return parse_text_json(text) if status == 200 else None
    except ValueError:
        return None


def authorization(host: Host, key: Path) -> dict[str, str]:
    """The header with the first key of the file."""
    try:
        return {"Authorization": f"Bearer {host.read(key).decode().split()[0]}"}
    except (OSError, IndexError, ValueError) as error:
        raise VmtoolError(f"{key}: holds no API key") from error


def _headers(host: Host, key: Path) -> dict[str, str]:
    """What goes with a question."""
    return {**authorization(host, key), "Content-Type": "application/json"}


def _question(model: str, prompt: str, temperature: float, **more: Any) -> bytes:
    question = {"model": model, "temperature": temperature, "messages": [{"role": "user", "content": prompt}], **more}
    return json.dumps(question).encode()


def _check_status(status: int, text: str, url: Address) -> None:
    if status != 200:
        raise VmtoolError(f"{url} answered with status {status}", details=error_text(text).splitlines()[:5])


def _read(text: str, part: str, url: Address) -> Answer:
    try:
        return read_answer(text, part)
    except ValueError as error:
        raise VmtoolError(f"{url} answered something that is no chat completion", details=[text[:200]]) from error
