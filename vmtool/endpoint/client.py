"""Talking to the served model: waiting until it is healthy, asking it, and comparing the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from vmtool.errors import ProgramFailed, VerificationFailed, VmtoolError
from vmtool.host import daemons, files
from vmtool.plan import AskCanary, AwaitHealth, Server

POLL = 0.1
MAX_ANSWER = 1 << 20


def base_url(server: Server) -> str:
    """The server's address as a URL; of a container that publishes nothing, from the CNI result.

    Raises:
        VmtoolError: the result file is absent or tells no address.
    """
    host = server.host
    if not host:
        try:
            host = json.loads(server.result.read_text())["ips"][0]["address"].partition("/")[0]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise VmtoolError(f"{server.result}: tells no address of the container") from error
    return f"http://{host}:{server.port}"


def await_health(action: AwaitHealth, note: Callable[[str], None]) -> None:
    """Poll /health.

    Raises:
        ProgramFailed: the process ended, or the deadline passed; the workload's last lines are given.
    """
    url = base_url(action.server) + "/health"
    started = time.monotonic()
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        while True:
            if _status(client, url) == 200:
                return
            waited = time.monotonic() - started
            if not daemons.living(action.pidfile):
                raise ProgramFailed("the container ended before it was healthy", details=tail(action.log),
                                    log=str(action.log))
            if waited > action.deadline:
                raise ProgramFailed(f"not healthy after {action.deadline:.0f} s", details=tail(action.log),
                                    hint="give it more time with --timeout SECONDS", log=str(action.log))
            note(f"{waited:.0f} s of at most {action.deadline:.0f} s")
            time.sleep(POLL)


def ask_canary(action: AskCanary) -> None:
    """Ask, compare, and keep the exchange as evidence.

    Raises:
        VerificationFailed: the answer is another than the expected one.
        VmtoolError: there was no answer.
    """
    answer = ask(base_url(action.server), action.key, action.model, action.prompt, deadline=action.deadline)
    right = answer.strip() == action.expect.strip() if action.match == "exact" else action.expect in answer
    evidence = {"prompt": action.prompt, "expect": action.expect, "match": action.match, "answer": answer,
                "right": right}
    files.write(action.evidence, json.dumps(evidence, indent=2, ensure_ascii=False) + "\n")
    if not right:
        raise VerificationFailed("the model's answer to the canary's question is wrong",
                                 details=(f"asked:    {action.prompt!r}", f"expected: {action.expect!r}",
                                          f"answered: {answer[:500]!r}"),
                                 hint="the server is healthy but its output cannot be trusted: compare on another "
                                      "device, or correct spec.canary when the expectation is wrong")


def ask(url: str, key: Path, model: str, prompt: str, *, deadline: float, temperature: float = 0.0) -> str:
    """The model's whole answer to one question.

    Raises:
        VmtoolError: the server refused, or did not answer within `deadline` seconds.
    """
    with httpx.Client(timeout=deadline, trust_env=False, headers=_authorization(key)) as client:
        try:
            reply = client.post(f"{url}/v1/chat/completions", json=_question(model, prompt, temperature))
        except httpx.HTTPError as error:
            raise VmtoolError(f"{url} did not answer: {error or type(error).__name__}") from error
    _check_status(reply.status_code, reply.text, url)
    return _pick(reply.text, "message", url)


def stream(url: str, key: Path, model: str, prompt: str, *, deadline: float,
           temperature: float = 0.0) -> Iterator[str]:
    """The model's answer in pieces, as they are made.

    Raises:
        VmtoolError: as `ask`.
    """
    question = _question(model, prompt, temperature) | {"stream": True}
    with httpx.Client(timeout=deadline, trust_env=False, headers=_authorization(key)) as client:
        try:
            with client.stream("POST", f"{url}/v1/chat/completions", json=question) as reply:
                if reply.status_code != 200:
                    _check_status(reply.status_code, reply.read().decode(errors="replace"), url)
                for line in reply.iter_lines():
                    data = line.removeprefix("data:").strip()
                    if line.startswith("data:") and data != "[DONE]":
                        yield _pick(data, "delta", url)
        except httpx.HTTPError as error:
            raise VmtoolError(f"{url} broke off: {error or type(error).__name__}") from error


def tail(log: Path, lines: int = 12) -> list[str]:
    """The last lines of a log; of a large one, only its last 64 KiB are read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - (64 << 10)))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _status(client: httpx.Client, url: str) -> int:
    try:
        return client.get(url).status_code
    except httpx.HTTPError:
        return 0


def _authorization(key: Path) -> dict[str, str]:
    """The header with the first key of the file."""
    try:
        return {"Authorization": f"Bearer {key.read_text().split()[0]}"}
    except (OSError, IndexError) as error:
        raise VmtoolError(f"{key}: holds no API key") from error


def _question(model: str, prompt: str, temperature: float) -> dict[str, Any]:
    return {"model": model, "temperature": temperature, "messages": [{"role": "user", "content": prompt}]}


def _check_status(status: int, text: str, url: str) -> None:
    if status != 200:
        raise VmtoolError(f"{url} answered with status {status}", details=text[:2000].splitlines()[:5])


def _pick(text: str, part: str, url: str) -> str:
    """The content of the first choice; an empty string when it has none (the first and last piece of a stream)."""
    try:
        choices = json.loads(text[:MAX_ANSWER])["choices"]
        return str(choices[0][part].get("content") or "") if choices else ""
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise VmtoolError(f"{url} answered something that is no chat completion", details=[text[:200]]) from error
