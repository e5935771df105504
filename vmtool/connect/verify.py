"""From what a server answers to what is proven of it. Nothing here is on the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vmtool.attest.appraisal import Appraisal, describe
from vmtool.attest.recognise import appraise_pieces, recognise_alone
from vmtool.attest.reference import TEES
from vmtool.attest.request import Collateral, Request, Roots
from vmtool.attest.server.answer import NONE, ServerEvidence, answered, open_answer
from vmtool.attest.server.errors import NotVerified
from vmtool.connect.policy import Policy

# What evidence of each kind must prove besides: that it is new, of this key, and of that guest.
NEEDED = ("freshness", "binding", "measurement")


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
    answer = answered(data, nonce, key)
    if not policy.expects:
        return Verified(key, NONE)
    if answer.kind == NONE:
        raise NotVerified(f"the server runs in no TEE, and the policy requires {policy.expects}",
                          details=[answer.note[:200]] if answer.note else [])
    appraisals = _appraise(answer, Request(trusted.roots, at, trusted.collateral, policy.reference, nonce))
    proven = {claim.id for each in appraisals for claim in each.claims if claim.verdict == "proven"}
    unproven = [name for each in appraisals for name in each.unproven] or [
        name for name in (f"{policy.expects}.{each}" for each in NEEDED) if name not in proven]
    if unproven or not appraisals:
        raise NotVerified(f"the server's evidence does not prove: {', '.join(unproven)}", details=_reasons(appraisals))
    return Verified(key, policy.expects, appraisals)


def _appraise(answer: ServerEvidence, request: Request) -> tuple[Appraisal, ...]:
    try:
        pieces = tuple(open_answer(answer, recognise_alone))
    except BaseException as error:
        raise NotVerified(f"the server's evidence is refused: {describe(error)}") from error
    return appraise_pieces(pieces, request)


def _reasons(appraisals: Sequence[Appraisal]) -> list[str]:
    return [f"{claim.id}: {claim.verdict}: {claim.evidence[:300]}" for each in appraisals for claim in each.claims
            if claim.id in each.unproven]
