"""From what a server answers to what is proven of it. Nothing here is on the network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from vmtool.attest.appraisal import Appraisal, describe
from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import mapping, parse_json, text
from vmtool.attest.recognise import appraise_file
from vmtool.attest.request import Collateral, Request, Roots
from vmtool.attest.sort_collateral import sort_collateral
from vmtool.connect.policy import TEES, Policy
from vmtool.errors import VerificationFailed
from vmtool.serving.evidence.binding import NO_KEY, VERSION, bind

MEMBERS = frozenset({"version", "nonce", "key", "kind", "evidence", "certificates", "note"})
NONE = "none"
# What evidence of each kind must prove besides: that it is new, of this key, and of that guest.
NEEDED = ("freshness", "measurement")


class NotVerified(VerificationFailed):
    """The server is not one that the policy takes; nothing is sent to it."""


@dataclass(frozen=True)
class Verified:
    """A server that the policy takes.

    Args:
        key: digest of the public key of its TLS connections; NO_KEY without TLS.
        kind: of its evidence; "none" when it runs in no TEE.
    """

    key: bytes
    kind: str
    appraisals: tuple[Appraisal, ...] = ()

    @property
    def confidential(self) -> bool:
        return self.kind in TEES

    @property
    def title(self) -> str:
        """What was proven, for a person."""
        if self.confidential:
            return ", ".join(each.title for each in self.appraisals)
        return "NOT CONFIDENTIAL: " + ("what was booted is proven, by a TPM" if self.appraisals else "no TEE")


@dataclass(frozen=True)
class Trusted:
    """What evidence is checked against beside the policy's values."""

    roots: Roots
    collateral: Collateral


def verify(data: bytes, nonce: bytes, key: bytes, policy: Policy, trusted: Trusted, at: datetime) -> Verified:
    """What a server's answer to a nonce, on a connection with that key, proves.

    Raises:
        NotVerified: it is not what the policy requires, or is not well formed.
    """
    try:
        answer = _read(data, nonce, key)
    except BaseException as error:
        raise NotVerified(f"the server's evidence is refused: {describe(error)}") from error
    kind = answer["kind"]
    if not policy.expects:
        return Verified(key, NONE)
    if kind == NONE:
        raise NotVerified(f"the server runs in no TEE, and the policy requires {policy.expects}",
                          details=[str(answer["note"])[:200]] if answer["note"] else [])
    appraisals = _appraise(answer, bind(nonce, key), policy, trusted, at)
    proven = {claim.id for each in appraisals for claim in each.claims if claim.verdict == "proven"}
    unproven = [name for each in appraisals for name in each.unproven] or [
        name for name in (f"{policy.expects}.{each}" for each in NEEDED) if name not in proven]
    if unproven or not appraisals:
        raise NotVerified(f"the server's evidence does not prove: {', '.join(unproven)}", details=_reasons(appraisals))
    return Verified(key, policy.expects, appraisals)


def _read(data: bytes, nonce: bytes, key: bytes) -> Mapping[str, Any]:
    """The answer, which must be to this nonce and of this key."""
    answer = mapping(parse_json(data), "the answer", MEMBERS)
    require(answer.keys() == MEMBERS, f"{', '.join(sorted(MEMBERS - answer.keys()))} is missing")
    require(type(answer["version"]) is int and answer["version"] == VERSION,
            f"version {str(answer['version'])[:20]} of the evidence is unknown; this vmtool knows {VERSION}")
    require(answer["nonce"] == nonce.hex(), "it answers another nonce: it is not fresh")
    require(answer["key"] == (None if key == NO_KEY else key.hex()), "it is bound to another TLS key than the one of "
            "this connection")
    text(answer["kind"], "kind")
    text(answer["note"], "note")
    for name in ("evidence", "certificates"):
        require(answer[name] is None or isinstance(answer[name], str), f"{name} is no text")
    require((answer["kind"] == NONE) == (answer["evidence"] is None), "its kind and its evidence do not fit")
    return answer


def _appraise(answer: Mapping[str, Any], bound: bytes, policy: Policy, trusted: Trusted, at: datetime
              ) -> tuple[Appraisal, ...]:
    try:
        evidence = base64.b64decode(answer["evidence"], validate=True)
        collateral = _with_presented(answer, trusted.collateral)
    except BaseException as error:
        raise NotVerified(f"the server's evidence is refused: {describe(error)}") from error
    return appraise_file(evidence, Request(trusted.roots, at, collateral, policy.reference, bound))


def _with_presented(answer: Mapping[str, Any], collateral: Collateral) -> Collateral:
    """Certificates that the server presents are used when the policy brings none; they lead to a root or to nothing."""
    if answer["certificates"] is None or collateral.certificates:
        return collateral
    table = base64.b64decode(answer["certificates"], validate=True)
    presented = sort_collateral([("the certificates that the server presents", table)])
    return replace(collateral, certificates=presented.certificates,
                   problems=(*collateral.problems, *presented.problems))


def _reasons(appraisals: Sequence[Appraisal]) -> list[str]:
    return [f"{claim.id}: {claim.verdict}: {claim.evidence[:300]}" for each in appraisals for claim in each.claims
            if claim.id in each.unproven]
