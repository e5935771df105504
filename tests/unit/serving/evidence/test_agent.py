"""The attestation agent on the guest's loopback, where a container has no device of its TEE."""

from __future__ import annotations

import base64
import errno
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.snp_signer import signer
from tests.fakes.tee_guest import FakeGuest, fails
from tests.unit.connect.cases import KEY, NONCE, SNP, judge, policy
from vmtool.connect.verify import Verified
from vmtool.serving.evidence.binding import bind
from vmtool.serving.evidence.collect import collect, document
from vmtool.serving.evidence.guest import NotCollected
from vmtool.serving.kbs import guest_agent
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.http_calls import Answer, HttpServer
from vmtool.serving.kbs.snp_json import snp_evidence

BOUND = bytes(range(32))


@dataclass
class FakeAgent:
    """Answers as the agent does: its report is over the data that it is given, zeros after it."""

    tee: str = "snp"
    fails: bool = False
    asked: list[bytes] = field(default_factory=list)

    def evidence(self, digest: bytes) -> Any:
        self.asked.append(digest)
        if self.fails:
            raise KeyNotReleased("evidence", "http://127.0.0.1:8006 answered 500")
        if self.tee == "sample":
            return {"svn": "1", "report_data": base64.b64encode(digest).decode()}
        return snp_evidence(signer().report(digest.ljust(64, b"\0")), signer().table)


def judged(tmp_path: Path, guest: FakeGuest) -> Verified:
    made = document(NONCE, KEY, lambda bound: collect(bound, guest))
    return judge(json.dumps(made).encode(), policy(tmp_path, SNP))


def test_its_evidence_is_over_nonce_and_key_and_verified_as_any(tmp_path: Path) -> None:
    agent = FakeAgent()
    assert judged(tmp_path, FakeGuest(answering=agent)).title == "AMD SEV-SNP"
    assert agent.asked == [bind(NONCE, KEY)]


def test_over_http_as_api_server_rest_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(self: HttpServer, step: str, method: str, path: str, body: object = None) -> Answer:
        if path == "/info":
            return Answer(200, json.dumps({"version": "1", "tee": "snp", "feature": "attestation"}).encode(), {})
        digits = path.partition("runtime_data=")[2].partition("&")[0]
        digest = base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
        return Answer(200, json.dumps(FakeAgent().evidence(digest)).encode(), {})

    monkeypatch.setattr(HttpServer, "call", call)
    assert judged(tmp_path, FakeGuest(answering=guest_agent.find_agent())).confidential


def test_a_device_is_asked_first_and_a_tpm_last() -> None:
    agent = FakeAgent()
    found = collect(BOUND, FakeGuest("tdx_guest", bytes, answering=agent))
    assert found and (found.kind, agent.asked) == ("tdx", [])
    found = collect(BOUND, FakeGuest(answering=agent, tpm=lambda command: b""))
    assert found and (found.kind, agent.asked) == ("snp", [BOUND])


def test_where_the_device_is_denied_the_agent_is_asked() -> None:
    def denied(data: bytes) -> bytes:
        raise fails(errno.EACCES)

    found = collect(BOUND, FakeGuest("sev_guest", denied, answering=FakeAgent()))
    assert found and found.evidence != b""
    for agent in (None, FakeAgent("sample")):
        with pytest.raises(NotCollected, match="Permission denied"):
            collect(BOUND, FakeGuest("sev_guest", denied, answering=agent, tpm=lambda command: b""))


@pytest.mark.parametrize(("tee", "why"), [
    ("sample", "of the kind 'sample', whose evidence proves nothing"), ("", "attests nothing"),
    ("az-snp-vtpm", "of the kind 'az-snp-vtpm', which is unknown here")])
def test_evidence_of_no_tee_is_never_taken_for_one(tee: str, why: str) -> None:
    agent = FakeAgent(tee)
    made = document(NONCE, KEY, lambda bound: collect(bound, FakeGuest(answering=agent)))
    assert (made["kind"], made["evidence"], made["version"], agent.asked) == ("none", None, 1, [])
    assert str(made["note"]).startswith("unconfidential: ") and why in str(made["note"])


def test_one_that_fails_is_not_taken_for_no_tee() -> None:
    with pytest.raises(NotCollected, match=r"the attestation agent: .*500"):
        collect(BOUND, FakeGuest(answering=FakeAgent(fails=True)))


def test_a_tpm_beside_a_sample_agent_keeps_the_note() -> None:
    guest = FakeGuest(answering=FakeAgent("sample"), tpm=lambda command: (_ for _ in ()).throw(fails(errno.EIO)))
    with pytest.raises(NotCollected, match="/dev/tpmrm0"):
        collect(BOUND, guest)
