"""A broker without a network: its decisions, and a server that a guest's client calls in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.recorded import Recorded
from vmtool.broker.audit import Audit
from vmtool.broker.decide import Decisions
from vmtool.broker.facts import read_release
from vmtool.broker.refusals import KbsRefusal, no_session
from vmtool.broker.release import ReleaseRules
from vmtool.broker.sessions import Sessions
from vmtool.host.local import LocalMachine
from vmtool.serving.kbs.exchange import COOKIE, PREFIX
from vmtool.serving.kbs.http_calls import Answer, HttpServer

SECRET = b'{"kty": "oct", "alg": "aes256gcm", "kid": "m", "k": "..."}\n'
NAME = "demo/model/key"
RECORDED = Recorded({})


def write_config(directory: Path, policies: Mapping[str, Mapping[str, Any]] | None = None, **more: Any) -> Path:
    """A configuration, with a file of mode 0600 for each resource."""
    resources = {}
    for name, policy in (policies or {NAME: {"tee": ["sample"]}}).items():
        file = directory / f"{name.replace('/', '-')}.jwk"
        file.touch(mode=0o600)
        file.write_bytes(SECRET)
        resources[name] = {"file": file.name, "policy": dict(policy)}
    values = {"apiVersion": "vmtool/v1", "kind": "Broker", "audit": "audit.jsonl", "allow_unconfidential": True,
              "resources": resources} | more
    path = directory / "broker.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in values.items() if value is not None},
                                   sort_keys=False))
    return path


def write_reference(directory: Path, **sections: Any) -> str:
    """A file of reference values; its name."""
    path = directory / f"{'-'.join(sections)}.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": "vmtool/v1", "kind": "Reference", **sections}))
    return path.name


def release_of(path: Path, listen: str | None = None) -> ReleaseRules:
    return read_release(LocalMachine(), path, listen)


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class InProcess(HttpServer):
    """A broker that is called without a connection; what was asked and answered is kept."""

    decisions: Decisions
    clock: Clock

    def call(self, step: str, method: str, path: str, body: object = None,
             headers: Mapping[str, str] = {}) -> Answer:
        text = json.dumps(body).encode()
        try:
            values, cookies = self.answered(path, text, headers.get("Cookie", "").removeprefix(f"{COOKIE}="))
            return Answer(200, json.dumps(values).encode(), cookies)
        except KbsRefusal as refusal:
            self.refusals().append(refusal)
            return Answer(refusal.status, json.dumps(refusal.values()).encode(), {})

    def refusals(self) -> list[KbsRefusal]:
        """All so far."""
        found: list[KbsRefusal] = self.__dict__.setdefault("refused", [])
        return found

    def answered(self, path: str, body: bytes, cookie: str) -> tuple[Any, dict[str, str]]:
        """As the handler does over HTTP."""
        if path == f"{PREFIX}/auth":
            session, introduced = self.decisions.challenge("192.0.2.1", body)
            more = self.decisions.introduce(session, introduced) if introduced else {}
            return {"nonce": session.nonce, "extra-params": more or ""}, {COOKIE: session.name}
        sessions = self.decisions.sessions
        found = sessions.answer(cookie) if path == f"{PREFIX}/attest" else sessions.use(cookie)
        if found is None:
            raise no_session()
        if path == f"{PREFIX}/attest":
            return {"token": self.decisions.attest(found, body)}, {}
        return self.decisions.resource(found, path.removeprefix(f"{PREFIX}/resource/")), {}


def broker(path: Path, **limits: int) -> InProcess:
    """The broker of a configuration."""
    release = release_of(path)
    found, clock = InProcess("http://127.0.0.1:1"), Clock()
    sessions = Sessions(limits.get("sessions", 1000), limits.get("seconds", 300), clock)
    # Frozen, as the real one is.
    vars(found).update(decisions=Decisions(release, sessions, Audit(release.audit)), clock=clock)
    return found


def audited(path: Path) -> list[dict[str, Any]]:
    """The lines of the audit file next to a configuration."""
    file = path.with_name("audit.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
