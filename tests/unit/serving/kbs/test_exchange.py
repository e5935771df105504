"""A broker that refuses, answers late, lies, or does not end: the guest gets no key, and says at which step."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.tee_guest import FakeGuest
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.entrypoint import unless
from vmtool.serving.kbs import guest_agent, source
from vmtool.serving.kbs.attesters import Attester, find_attester, sample_evidence
from vmtool.serving.kbs.broker_source import BrokerSource
from vmtool.serving.kbs.errors import KeyNotReleased, printable
from vmtool.serving.kbs.exchange import fetch
from vmtool.serving.kbs.guest_agent import GuestAgent, find_agent
from vmtool.serving.kbs.http_calls import Answer, HttpServer
from vmtool.serving.kbs.jwe import seal
from vmtool.serving.kbs.resource_name import resource_name
from vmtool.serving.kbs.source import ReleasedKey, read_key
from vmtool.serving.kbs.tee_keys import jwk_of, public_key
from vmtool.serving.kbs.tsm import TsmReports

NAME, SECRET = "demo/model/key", b"c2VjcmV0 bytes of a key"
SAMPLE = Attester("sample", "", sample_evidence)
COOKIE = {"kbs-session-id": "0" * 32}
NONCE = base64.b64encode(bytes(32)).decode()
Reply = Callable[[Any], Answer]


def values(found: object, status: int = 200, cookies: Mapping[str, str] = {}) -> Reply:
    """An answer with this JSON."""
    return lambda asked: Answer(status, json.dumps(found).encode(), cookies)


def error(kind: str, status: int = 401) -> Reply:
    return values({"type": f"https://github.com/confidential-containers/kbs/errors/{kind}", "detail": "d"}, status)


class Lying(HttpServer):
    """A broker that answers as it should, but for the steps that are given."""

    def __init__(self, **replies: Reply) -> None:
        super().__init__("http://127.0.0.1:1")
        vars(self).update(replies=replies, asked={})

    def call(self, step: str, method: str, path: str, body: object = None,
             headers: Mapping[str, str] = {}) -> Answer:
        asked, replies = vars(self)["asked"], vars(self)["replies"]
        asked[step] = body
        if step in replies:
            answer: Answer = replies[step](asked)
            return answer
        if step == "auth":
            return Answer(200, json.dumps({"nonce": NONCE, "extra-params": ""}).encode(), COOKIE)
        if step == "attest":
            return Answer(200, b'{"token": "e30.e30."}', {})
        jwk = asked["attest"]["runtime-data"]["tee-pubkey"]
        return Answer(200, json.dumps(seal(public_key(jwk), SECRET)).encode(), {})


def refused(**replies: Reply) -> KeyNotReleased:
    with pytest.raises(KeyNotReleased) as caught:
        fetch(Lying(**replies), NAME, SAMPLE)
    return caught.value


def test_an_honest_broker_gives_the_key() -> None:
    server = Lying()
    assert fetch(server, NAME, SAMPLE, "init") == SECRET
    asked = vars(server)["asked"]
    assert asked["auth"]["version"] == "0.4.0" and asked["attest"]["init-data"] == {"format": "toml", "body": "init"}


@pytest.mark.parametrize(("step", "reply", "why"), [
    ("auth", error("AttestationError"), "another version of the protocol"),
    ("auth", error("InvalidRequestPath", 404), "Key Broker Service?"),
    ("auth", values({"nonce": "AA=="}, cookies=COOKIE), "nonce"), ("auth", values([], cookies=COOKIE), "not a JSON"),
    ("auth", values({"nonce": NONCE, "extra-params": ""}), "no cookie"),
    ("auth", values({"nonce": NONCE}, cookies={"kbs-session-id": "a b"}), "no cookie"),
    ("auth", values({"nonce": NONCE, "extra-params": {"selected-hash-algorithm": "md5"}}, cookies=COOKIE), "SHA-384"),
    ("auth", values({"nonce": NONCE, "nonce ": NONCE}, 500), "500"),
    ("auth", lambda asked: Answer(200, b'{"nonce": "a", "nonce": "b"}', COOKIE), "twice"),
    ("auth", lambda asked: Answer(200, b"[" * 100_000, COOKIE), "not JSON"),
    ("attest", error("AttestationError"), "not accepted"), ("attest", values({}, 503), "503"),
    ("attest", lambda asked: Answer(401, b"\x1b[31m<html>", {}), "401"),
    ("resource", error("PolicyDeny"), "does not allow this guest"),
    ("resource", error("PluginInternalError"), "no such resource"), ("resource", error("TokenNotFound"), "over"),
    ("resource", values({}), "not to be trusted"), ("resource", values({"k": "in clear"}), "not to be trusted"),
    ("resource", lambda asked: Answer(200, SECRET, {}), "not to be trusted"),
    ("resource", lambda asked: Answer(200, json.dumps(seal(ec.generate_private_key(
        ec.SECP256R1()).public_key(), SECRET)).encode(), {}), "another guest's"),
])
def test_another_one_does_not(step: str, reply: Reply, why: str) -> None:
    found = refused(**{step: reply})
    assert found.step == step and why in str(found), str(found)
    assert "\x1b" not in str(found)


def test_an_answer_of_an_earlier_exchange_opens_nothing() -> None:
    kept: list[Answer] = []

    def keep(asked: Any) -> Answer:
        jwk = asked["attest"]["runtime-data"]["tee-pubkey"]
        kept.append(Answer(200, json.dumps(seal(public_key(jwk), SECRET)).encode(), {}))
        return kept[0]

    assert fetch(Lying(resource=keep), NAME, SAMPLE) == SECRET
    assert "another guest's" in str(refused(resource=lambda asked: kept[0]))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["nonce", "extra-params", "type", "detail", "token", "protected", "iv", "tag", "ciphertext", "encrypted_key"]),
        inner, max_size=5), max_leaves=10)


@given(JSON, st.sampled_from(["auth", "resource"]), st.sampled_from([200, 401, 404, 500]))
def test_no_other_answer_is_taken_or_crashes(found: Any, step: str, status: int) -> None:
    assert refused(**{step: values(found, status, COOKIE)}).step == step


@given(st.binary(max_size=300))
def test_what_a_peer_says_steers_no_terminal(said: bytes) -> None:
    text = printable(said)
    assert text.isprintable() and len(text) <= 200


@pytest.mark.parametrize(("url", "why"), [
    ("ftp://kbs.lab", "no address"), ("kbs.lab:8080", "no address"), ("https://", "no address"), ("", "no address"),
    ("https://user:word@kbs.lab", "no address"), ("https://kbs.lab/?x=1", "no address"),
    ("https://kbs.lab:99999", "no address"), ("http://192.0.2.1", "plain HTTP"), ("http://kbs.lab", "plain HTTP"),
    ("http://127.0.0.1.evil.example", "plain HTTP"), ("https://kbs.lab", "CA"),
])
def test_an_address_that_is_not_called(url: str, why: str) -> None:
    with pytest.raises(KeyNotReleased, match=why):
        fetch(HttpServer(url), NAME, SAMPLE)


@pytest.mark.parametrize("name", ["", "a/b", "a/b/c/d", "a/../c", "a/b/.c", "a//c", "/a/b/c", "a/b/c?d", "a/b/%63",
                                  "a/b/c\n", "kbs://host/a/b/c", "a/b/ü"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="REPOSITORY/TYPE/TAG"):
        resource_name(name)


def test_a_name_may_be_written_as_an_address() -> None:
    assert resource_name("kbs:///demo/model/key-1.0_a") == "demo/model/key-1.0_a"


class Agent(HttpServer):
    """The services on a guest's loopback."""

    answers: Mapping[str, Answer] = {}

    def call(self, step: str, method: str, path: str, body: object = None,
             headers: Mapping[str, str] = {}) -> Answer:
        found = self.answers.get(path.partition("?")[0])
        if found is None:
            raise KeyNotReleased(step, "nothing there")
        return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Answer]:
    """What the services answer by path; nothing at first."""
    answers: dict[str, Answer] = {}
    monkeypatch.setattr(Agent, "answers", answers)
    monkeypatch.setattr(guest_agent, "HttpServer", Agent)
    return answers


def info(**found: object) -> Answer:
    return Answer(200, json.dumps({"version": "1", **found}).encode(), {})


def test_the_data_hub_is_asked_first_and_its_failure_is_said(hub: dict[str, Answer]) -> None:
    hub |= {"/info": info(feature="resource"), f"/cdh/resource/{NAME}": Answer(200, SECRET, {})}
    said: list[str] = []
    assert read_key(BrokerSource(NAME, "https://kbs.lab"), said.append) == SECRET
    assert "data hub" in said[0] and SECRET.decode() not in said[0]
    hub[f"/cdh/resource/{NAME}"] = Answer(500, b"rpc status: \x1b[2Jget failed", {})
    with pytest.raises(KeyNotReleased, match=r"data hub: .* answered 500 .*get failed") as caught:
        read_key(BrokerSource(NAME, "https://kbs.lab"), said.append)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("found", [info(), info(feature=5), info(feature="resource", tee="evil"), info(
    feature="resource", additional_tees={"x": 1}), Answer(200, b"<html>", {}), Answer(403, b"{}", {}),
    Answer(200, b"[]", {})])
def test_what_is_no_agent_is_none(hub: dict[str, Answer], found: Answer) -> None:
    hub["/info"] = found
    assert find_agent() is None


def test_without_a_hub_and_an_address_there_is_no_key(hub: dict[str, Answer]) -> None:
    with pytest.raises(KeyNotReleased, match="name a broker"):
        read_key(BrokerSource(NAME), print)


def test_the_agents_evidence_is_used_where_it_gives_no_resources(hub: dict[str, Answer], tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    hub |= {"/info": info(feature="attestation", tee="tdx", additional_tees=["nvidia"]),
            "/aa/evidence": Answer(200, b'{"quote": "AA==", "cc_eventlog": null}', {}),
            "/aa/additional-evidence": Answer(200, b'{"nvidia": {}}', {})}
    server = Lying()
    monkeypatch.setattr(source, "HttpServer", lambda url, ca, seconds: server)
    assert read_key(BrokerSource(NAME, "https://kbs.lab", "PEM"), print) == SECRET
    asked = vars(server)["asked"]
    assert asked["auth"]["tee"] == "tdx"
    assert asked["attest"]["tee-evidence"] == {"primary_evidence": {"quote": "AA==", "cc_eventlog": None},
                                               "additional_evidence": '{"nvidia": {}}'}


def test_the_sample_attester_is_never_a_fallback(tmp_path: Path) -> None:
    with pytest.raises(KeyNotReleased, match="nothing to prove"):
        find_attester(None, allow_unconfidential=False, reports=TsmReports(FakeGuest()))
    assert find_attester(None, allow_unconfidential=True, reports=TsmReports(FakeGuest())).tee == "sample"
    # A TPM is better than nothing, and no TEE: it does not step in for one.
    booted = TsmReports(FakeGuest(tpm=lambda command: b""))
    assert find_attester(None, allow_unconfidential=True, reports=booted).tee == "tpm"
    with pytest.raises(KeyNotReleased, match="nothing to prove"):
        find_attester(None, allow_unconfidential=False, reports=booted)
    with pytest.raises(KeyNotReleased, match="evidence: /dev/tpmrm0: an answer of an odd length"):
        find_attester(None, allow_unconfidential=True, reports=booted).primary(bytes(48))
    agent = GuestAgent(HttpServer("http://127.0.0.1:1"), "sample", (), resources=False)
    with pytest.raises(KeyNotReleased, match="nothing to prove"):
        find_attester(agent, allow_unconfidential=False, reports=TsmReports(FakeGuest()))
    # What is better and fails later is not replaced.
    broken = GuestAgent(HttpServer("http://127.0.0.1:1"), "snp", (), resources=False)
    assert find_attester(broken, allow_unconfidential=True, reports=TsmReports(FakeGuest())).tee == "snp"


def test_no_two_exchanges_have_one_key() -> None:
    first, second = Lying(), Lying()
    fetch(first, NAME, SAMPLE)
    fetch(second, NAME, SAMPLE)
    keys = [vars(each)["asked"]["attest"]["runtime-data"]["tee-pubkey"] for each in (first, second)]
    assert keys[0] != keys[1] and jwk_of(public_key(keys[0])) == keys[0]


def test_who_is_told_to_stop_while_a_broker_is_late_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the entrypoint does at SIGTERM; a thread of asyncio's own would be waited for at the end."""
    began, answered, came = threading.Event(), threading.Event(), list[bytes]()

    def late(found: BrokerSource, say: Callable[[str], None]) -> bytes:
        began.set()
        answered.wait(60)
        came.append(SECRET)
        return SECRET

    async def told_to_stop() -> bytes | None:
        stop = asyncio.Event()
        waiting = asyncio.create_task(unless(stop, ReleasedKey(BrokerSource(NAME), print).read()))
        await asyncio.to_thread(began.wait, 60)
        stop.set()
        return await waiting

    monkeypatch.setattr(source, "read_key", late)
    try:
        assert asyncio.run(told_to_stop()) is None and came == []
    finally:
        answered.set()


@pytest.mark.parametrize("how", ["gives", "refuses", "breaks"])
def test_what_comes_of_the_exchange_is_what_the_source_gives(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def asked(found: BrokerSource, say: Callable[[str], None]) -> bytes:
        if how == "refuses":
            raise KeyNotReleased("attest", "the broker refused")
        return [SECRET][0 if how == "gives" else 1]

    monkeypatch.setattr(source, "read_key", asked)
    reading = ReleasedKey(BrokerSource(NAME), print).read()
    if how == "gives":
        assert asyncio.run(reading) == SECRET
    else:
        with pytest.raises(Untrusted if how == "refuses" else IndexError):
            asyncio.run(reading)
