"""The broker's three decisions, without HTTP: challenge, attest, release. Each one is audited."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmtool.broker.appraise import Presented, reasons_against
from vmtool.broker.audit import Audit
from vmtool.broker.facts import read_resource
from vmtool.broker.init_data import read_init_data
from vmtool.broker.introduction import challenge_tpm, introduction_of
from vmtool.broker.refusals import KbsRefusal, attestation_error
from vmtool.broker.release import ReleaseRules, Rule
from vmtool.broker.sessions import Session, Sessions
from vmtool.errors import VmtoolError
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import strict_json
from vmtool.serving.kbs.base64url import encode
from vmtool.serving.kbs.exchange import VERSION
from vmtool.serving.kbs.guest_agent import TEES
from vmtool.serving.kbs.jwe import seal
from vmtool.serving.kbs.tee_keys import PublicKey, public_key

_MEMBERS = {"init-data", "runtime-data", "tee-evidence"}


class Decisions:
    """What the broker decides by.

    Args:
        sessions: that are open.
    """

    def __init__(self, release: ReleaseRules, sessions: Sessions, audit: Audit) -> None:
        self.release, self.sessions, self.audit = release, sessions, audit

    def challenge(self, address: str, body: bytes) -> tuple[Session, Any]:
        """Open a session; with it, what the guest says of its TPM: see `introduce`. None when it says nothing.

        Raises:
            KbsRefusal: another version, an unknown TEE, or no room.
        """
        values = _object(body)
        version, tee = values.get("version"), values.get("tee")
        if version != VERSION:
            shown = version[:40] if isinstance(version, str) else "no text"
            raise attestation_error(f"version {shown}", "Attestation error: RCAR handshake Auth failed: KBS Client "
                                    f"Protocol Version Mismatch: expect ={VERSION} while the request is {shown}")
        if not isinstance(tee, str) or tee not in TEES:
            raise attestation_error("an unknown tee", "Attestation error: unknown tee")
        session = self.sessions.begin(address, tee)
        if session is None:
            raise KbsRefusal("RateLimited", "too many sessions", status=503)
        return session, introduction_of(values)

    def introduce(self, session: Session, introduction: Any) -> dict[str, str]:
        """The challenge for the key of a guest's TPM; empty when there is none, as for one that is enrolled."""
        try:
            given, session.challenge = challenge_tpm(introduction, self.release, datetime.now(UTC))
        except Untrusted as error:
            self.audit.note("auth", "not-challenged", session.name, address=session.address, tee=session.tee,
                            why=str(error)[:300])
            return {}
        return given

    def attest(self, session: Session, body: bytes) -> str:
        """Judge evidence; the token, which nobody signs: the session's cookie is what counts.

        Args:
            session: whose challenge is answered, by this and no other request.

        Raises:
            KbsRefusal: no resource is for this guest.
        """
        presented, key = _presented(session, _object(body))
        reasons = self._reasons(presented)
        granted = frozenset(name for name, against in reasons.items() if not against)
        if not granted:
            raise attestation_error(dict(reasons))
        # Before it takes effect.
        self.audit.note("attest", "granted", session.name, address=session.address, tee=session.tee,
                        resources=sorted(granted))
        self.sessions.attest(session, key, granted)
        return unsigned_token(int(self.release.limits.session_seconds))

    def resource(self, session: Session, name: str) -> dict[str, str]:
        """Release a resource, encrypted to the guest's key.

        Args:
            session: which this request ends.

        Raises:
            KbsRefusal: it is not for this guest, not there, or cannot be read.
        """
        if name not in self.release.rules:
            raise KbsRefusal("PluginInternalError", "Plugin internal error", "no such resource")
        if name not in session.granted or session.key is None:
            raise KbsRefusal("PolicyDeny", "Access denied by policy", "not granted to this session")
        try:
            sealed = seal(session.key, read_resource(self.release.rules[name].file))
        except (VmtoolError, OSError, ValueError) as error:
            raise KbsRefusal("PluginInternalError", "Plugin internal error", f"its file: {error}") from None
        self.audit.note("resource", "released", session.name, address=session.address, tee=session.tee, resource=name)
        return sealed

    def _reasons(self, presented: Presented) -> Mapping[str, tuple[str, ...]]:
        """Against each resource; resources with the same rules are judged once."""
        now, known, reasons = datetime.now(UTC), list[tuple[Rule, tuple[str, ...]]](), {}
        for name, rule in self.release.rules.items():
            same = next((found for other, found in known if (other.policy, other.reference) == (
                rule.policy, rule.reference)), None)
            if same is None:
                same = reasons_against(presented, rule, self.release, now)
                known.append((rule, same))
            reasons[name] = same
        return reasons


def unsigned_token(seconds: int) -> str:
    """What clients expect in the answer: a JWT with an end (RFC 7519, 6.1), which proves nothing to anybody."""
    parts = {"alg": "none", "typ": "JWT"}, {"exp": int(time.time()) + seconds, "iss": "vmtool"}
    return ".".join(encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts) + "."


def _object(body: bytes) -> dict[str, Any]:
    try:
        values = strict_json(body, "the request")
    except Untrusted as error:
        raise KbsRefusal("SerdeError", f"serde error: {error}") from None
    if not isinstance(values, dict):
        raise KbsRefusal("SerdeError", "serde error: a JSON object was expected")
    return values


def _presented(session: Session, values: dict[str, Any]) -> tuple[Presented, PublicKey]:
    """What a guest sends; every part of it is of the expected form, and of this session."""
    runtime, evidence = values.get("runtime-data"), values.get("tee-evidence")
    if set(values) - _MEMBERS or not isinstance(runtime, dict) or set(runtime) != {"nonce", "tee-pubkey"}:
        raise attestation_error("not a request of protocol 0.4.0: runtime-data has nonce and tee-pubkey")
    if not isinstance(evidence, dict) or set(evidence) != {"primary_evidence", "additional_evidence"} or not isinstance(
            evidence["additional_evidence"], str):
        raise attestation_error("tee-evidence has primary_evidence and additional_evidence, which is a text")
    if not isinstance(runtime["nonce"], str) or not hmac.compare_digest(
            runtime["nonce"].encode(errors="replace"), session.nonce.encode()):
        raise attestation_error("the nonce is not this session's")
    try:
        key = public_key(runtime["tee-pubkey"])
        evidence["additional_evidence"].encode()
        return Presented(session.tee, evidence["primary_evidence"], evidence["additional_evidence"], session.nonce,
                         runtime["tee-pubkey"], read_init_data(values.get("init-data")), session.challenge), key
    except ValueError as error:
        raise attestation_error(str(error)) from None
