"""From what a server answers to what is proven of it. Nothing here is on the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from vmtool.attest.appraisal import Appraisal, describe
from vmtool.attest.recognise import appraise_pieces, recognise_alone
from vmtool.attest.reference import TEES
from vmtool.attest.request import Collateral, Request, Roots
from vmtool.attest.server.answer import NONE, ServerEvidence, answered, open_answer
from vmtool.attest.server.errors import NotVerified
from vmtool.connect.policy import Policy
from vmtool.frozen import dataclass

# What evidence of each kind must prove besides: that it is new, of this key, and of that guest.
NEEDED = ("freshness", "binding", "measurement")


@dataclass(frozen=True)
class Verified:
    """A server that the policy takes.

    Args:
        key: digest of the public key of its TLS connections; NO_KEY without TLS.
        kind: of its evidence; "none" when it runs in no TEE.
        passed_over: how many devices were shown whose evidence was not looked at: the policy names none.
    """

    key: bytes
    kind: str
    appraisals: tuple[Appraisal, ...] = ()
    passed_over: int = 0

    @property
    def confidential(self) -> bool:
        return self.kind in TEES

    @property
    def title(self) -> str:
        """What was proven, for a person."""
        left = f"; NOT checked: {self.passed_over} GPUs, as the policy says nothing of them" if self.passed_over else ""
        if self.confidential:
            counted = Counter(each.title for each in self.appraisals)
            return ", ".join(title + (f" ({count})" if count > 1 else "") for title, count in counted.items()) + left
        return "NOT CONFIDENTIAL: " + ("what was booted is proven, by a TPM" if self.appraisals else "no TEE") + left


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
    passed_over = 0 if policy.expects_devices else len(answer.devices)
    if not policy.expects:
        return Verified(key, NONE, passed_over=passed_over)
    if answer.kind == NONE:
        raise NotVerified(f"the server runs in no TEE, and the policy requires {policy.expects}",
                          details=[answer.note[:200]] if answer.note else [])
    request = Request(trusted.roots, at, trusted.collateral, policy.reference, nonce)
    appraisals = _appraise(answer, request, devices=policy.expects_devices)
    proven = {claim.id for each in appraisals for claim in each.claims if claim.verdict == "proven"}
    unproven = [name for each in appraisals for name in each.unproven] or [
        name for label in {policy.expects: 0} | {each.label: 0 for each in appraisals}
        for name in (f"{label}.{each}" for each in NEEDED) if name not in proven]
    if unproven or not appraisals:
        raise NotVerified(f"the server's evidence does not prove: {', '.join(unproven)}",
                          details=_reasons(appraisals, unproven))
    return Verified(key, policy.expects, appraisals, passed_over)


def _appraise(answer: ServerEvidence, request: Request, *, devices: bool) -> tuple[Appraisal, ...]:
    try:
        pieces = tuple(open_answer(answer, recognise_alone, devices=devices))
    except BaseException as error:
        raise NotVerified(f"the server's evidence is refused: {describe(error)}") from error
    return appraise_pieces(pieces, request)


def _reasons(appraisals: Sequence[Appraisal], unproven: Sequence[str]) -> list[str]:
    return [f"{claim.id}: {claim.verdict}: {claim.evidence[:300]}" for each in appraisals for claim in each.claims
            if claim.id in unproven]
