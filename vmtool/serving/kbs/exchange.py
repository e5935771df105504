"""The three calls of protocol 0.4.0: a challenge, evidence for it, and the resource, encrypted to the guest's key."""

from __future__ import annotations

import re
from typing import Any

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import decode, strict_json
from vmtool.serving.kbs.attesters import Attester
from vmtool.serving.kbs.errors import KeyNotReleased, printable
from vmtool.serving.kbs.http_calls import Answer, HttpServer
from vmtool.serving.kbs.jwe import unseal
from vmtool.serving.kbs.runtime_data import device_data, report_data
from vmtool.serving.kbs.tee_keys import jwk_of, new_key

VERSION, PREFIX, COOKIE = "0.4.0", "/kbs/v0", "kbs-session-id"
NONCE = 32
HASHES = ("sha256", "sha384", "sha512", "sm3")
_SESSION = re.compile(r"[A-Za-z0-9._~+/=-]{1,256}")
# Almost everything is answered with 401: what it means is in the type of the answer's JSON.
MEANINGS = {
    "AttestationError": "the evidence was not accepted, or the broker speaks another version of the protocol",
    "PolicyDeny": "the resource's policy does not allow this guest",
    "PluginInternalError": "there is no such resource, or it cannot be read",
    "PluginNotFound": "it serves no resources",
    "InvalidRequestPath": "it has no such call: is the address one of a Key Broker Service?",
    "TokenNotFound": "the session is unknown or over",
    "TokenVerifierError": "the session is unknown or over",
    "PolicyEngineError": "its policy cannot be evaluated",
    "JweError": "it cannot encrypt to this guest's key",
    "RateLimited": "too many requests from this address",
}


def fetch(server: HttpServer, resource: str, attester: Attester, init_data: str = "") -> bytes:
    """The resource in clear.

    Args:
        resource: its name, such as demo/model/key.
        init_data: the TOML text that the host gave the guest and its evidence is bound to; empty for none.

    Raises:
        KeyNotReleased: at which step it failed, and why.
    """
    server.check()
    key = new_key()
    jwk = jwk_of(key.public_key())
    nonce, session, said = _challenge(server, attester)
    additional = attester.additional(device_data(nonce, jwk))
    evidence = attester.primary(report_data(nonce, jwk, additional))
    if more := attester.responded(said):
        evidence = {**evidence, **more}
    body: dict[str, Any] = {
        "runtime-data": {"nonce": nonce, "tee-pubkey": jwk},
        "tee-evidence": {"primary_evidence": evidence, "additional_evidence": additional}}
    if init_data:
        body["init-data"] = {"format": "toml", "body": init_data}
    cookie = {"Cookie": f"{COOKIE}={session}"}
    _ok("attest", server.call("attest", "POST", f"{PREFIX}/attest", body, cookie))
    answer = _ok("resource", server.call("resource", "GET", f"{PREFIX}/resource/{resource}", headers=cookie))
    try:
        return unseal(key, strict_json(answer.body, "the answer"))
    except Untrusted as error:
        raise KeyNotReleased("resource", f"the broker's answer is not to be trusted: {error}") from None


def _challenge(server: HttpServer, attester: Attester) -> tuple[str, str, dict[str, Any]]:
    """(nonce, session, what the broker said to the attester's introduction)."""
    answer = _ok("auth", server.call("auth", "POST", f"{PREFIX}/auth", {
        "version": VERSION, "tee": attester.tee,
        "extra-params": {"supported-hash-algorithms": HASHES, **attester.introduction()}}))
    try:
        challenge = answer.json("the challenge")
        nonce, more = challenge.get("nonce"), challenge.get("extra-params")
        decode(nonce, NONCE, "the challenge's nonce")
    except Untrusted as error:
        raise KeyNotReleased("auth", str(error)) from None
    said = more if isinstance(more, dict) else {}
    chosen = said.get("selected-hash-algorithm", "sha384")
    if chosen != "sha384":
        raise KeyNotReleased("auth", f"the broker wants evidence over {printable(str(chosen), 40)}, not SHA-384")
    session = answer.cookies.get(COOKIE, "")
    if not _SESSION.fullmatch(session):
        raise KeyNotReleased("auth", f"the answer has no cookie {COOKIE}")
    return str(nonce), session, said


def _ok(step: str, answer: Answer) -> Answer:
    if answer.status == 200:
        return answer
    kind, detail = _complaint(answer.body)
    meaning = MEANINGS.get(kind, "")
    said = f"{kind}: {meaning}" if meaning else kind or f"HTTP status {answer.status}"
    raise KeyNotReleased(step, f"the broker refused: {said}", printable(detail))


def _complaint(body: bytes) -> tuple[str, str]:
    """(type, detail) of an error."""
    try:
        values = strict_json(body, "the answer")
    except Untrusted:
        return "", printable(body)
    if not isinstance(values, dict):
        return "", printable(body)
    return printable(str(values.get("type", "")).rpartition("/")[2], 40), str(values.get("detail", ""))
