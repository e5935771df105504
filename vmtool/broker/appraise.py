"""Whether what a guest presents is what a policy asks for: vmtool's verifiers, with the guest's key as their nonce."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from vmtool.attest.appraisal import Appraisal
from vmtool.attest.measure.init_data import PLACES, fitted
from vmtool.attest.recognise import appraise_file
from vmtool.attest.reference import NO_REFERENCE, Reference
from vmtool.attest.request import Request
from vmtool.broker.digests import device_digest, report_digest
from vmtool.broker.init_data import InitData
from vmtool.broker.release import ReleaseRules, Rule
from vmtool.frozen import dataclass
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import strict_json
from vmtool.serving.kbs.attesters import SAMPLE

DEVICES = "nvidia"
# NVIDIA's devices take a nonce of 32 bytes.
DEVICE_NONCE = 32
# Reasons that one decision is audited with.
MOST_REASONS = 12
# What must be proven of each piece, whatever its verifier asks for by itself.
FRESH, MEASURED = "freshness", "measurement"


@dataclass(frozen=True)
class Presented:
    """What a guest sends to be attested.

    Args:
        primary: evidence of the guest, as JSON values.
        additional: evidence of its devices, as the JSON text that was sent; empty for none.
        nonce: the session's, as it was sent; jwk: the guest's key. Evidence is bound to both.
        challenge: that the guest's TPM was given, as it was kept; None without one.
    """

    tee: str
    primary: Any
    additional: str
    nonce: str
    jwk: Mapping[str, str]
    init_data: InitData | None
    challenge: bytes | None = None


def reasons_against(presented: Presented, rule: Rule, release: ReleaseRules, at: datetime) -> tuple[str, ...]:
    """Why the resource is not released; empty when it is."""
    policy = rule.policy
    if presented.tee not in policy.tee:
        return (f"the policy asks for {' or '.join(policy.tee)}",)
    return tuple([*_guest(presented, rule, release, at), *_devices(presented, rule, release, at),
                  *_init_data(presented, rule)][:MOST_REASONS])


def _guest(presented: Presented, rule: Rule, release: ReleaseRules, at: datetime) -> Iterator[str]:
    digest = report_digest(presented.nonce, presented.jwk, presented.additional)
    if presented.tee == SAMPLE:
        yield from _sample(presented.primary, digest)
        return
    if rule.reference is None:
        yield "the policy has no reference"
        return
    try:
        reference = _bound(_section(rule.reference, presented.tee), presented)
    except Untrusted as error:
        yield str(error)
        return
    # Keys that are enrolled are the only ones; else the TPM's maker vouches for one, by the answer to the challenge.
    challenge = None if reference.tpm.keys else presented.challenge
    request = Request(release.roots, at, release.collateral, reference, digest, challenge,
                      _kinds(presented, release))
    found = appraise_file(json.dumps(presented.primary).encode(), request)
    yield from _unproven(found, lambda label: label == presented.tee, (FRESH, MEASURED))


def _devices(presented: Presented, rule: Rule, release: ReleaseRules, at: datetime) -> Iterator[str]:
    """What is presented of devices is verified, whether the policy asks for it or not."""
    if not presented.additional:
        if rule.policy.gpu:
            yield "the policy asks for a GPU, and none was shown"
        return
    try:
        found = strict_json(presented.additional, "additional_evidence")
    except Untrusted as error:
        yield str(error)
        return
    if not isinstance(found, dict) or set(found) != {DEVICES}:
        yield f"additional_evidence has {DEVICES}, and nothing else"
        return
    # Values for devices, be they none, are met by a GPU only, and not by a switch alone.
    reference = _section(rule.reference or NO_REFERENCE, DEVICES) if rule.policy.gpu else NO_REFERENCE
    request = Request(release.roots, at, release.collateral, reference,
                      device_digest(presented.nonce, presented.jwk)[:DEVICE_NONCE], beside=_kinds(presented, release))
    yield from _unproven(appraise_file(json.dumps(found[DEVICES]).encode(), request), lambda label: label.rstrip(
        "0123456789") == DEVICES, (FRESH, MEASURED) if rule.policy.gpu else (FRESH,))


def _kinds(presented: Presented, release: ReleaseRules) -> frozenset[str]:
    """Kinds of evidence that the broker's collateral is for: those that its policies ask for, and what is shown."""
    policies = [rule.policy for rule in release.rules.values()]
    devices = {DEVICES} if presented.additional or any(policy.gpu for policy in policies) else set()
    return frozenset({presented.tee, *(tee for policy in policies for tee in policy.tee)} | devices)


def _unproven(found: tuple[Appraisal, ...], known: Any, needed: tuple[str, ...]) -> Iterator[str]:
    """Evidence of another kind than was named, and every claim that is not proven."""
    if not found:
        yield "there is no evidence"
    for each in found:
        if not known(each.label):
            yield f"it is evidence of another kind: {each.title}"
        proven = {claim.id for claim in each.claims if claim.verdict == "proven"}
        missing = [name for name in (f"{each.label}.{kind}" for kind in needed) if name not in proven]
        words = {claim.id: claim.evidence for claim in each.claims}
        yield from (f"{name}: {words.get(name, 'not shown')}"[:300]
                    for name in dict.fromkeys((*each.unproven, *missing)))


def _sample(primary: Any, digest: bytes) -> Iterator[str]:
    if not isinstance(primary, dict) or set(primary) != {"svn", "report_data"} or not isinstance(
            primary["report_data"], str):
        yield "the sample evidence has svn and report_data, and nothing else"
    elif not hmac.compare_digest(primary["report_data"].encode(errors="replace"), base64.b64encode(digest)):
        yield "the sample evidence is of another nonce or key"


def _section(reference: Reference, name: str) -> Reference:
    """Of a reference for several kinds of evidence, the values for one: the others are no part of this question."""
    return Reference.model_validate({name: getattr(reference, name)})


def _bound(reference: Reference, presented: Presented) -> Reference:
    """The values, with the digest of the init data among them: then the evidence must show it.

    Raises:
        Untrusted: the values ask for another one.
    """
    place = PLACES.get(presented.tee)
    if presented.init_data is None or place is None:
        return reference
    name, size = place
    section = getattr(reference, presented.tee)
    digest, expected = fitted(presented.init_data.digest, size), getattr(section, name)
    if expected is not None and fitted(expected, size) != digest:
        raise Untrusted(f"the init data is not that of {presented.tee}.{name}")
    return Reference.model_validate({presented.tee: section.model_copy(update={name: digest})})


def _init_data(presented: Presented, rule: Rule) -> Iterator[str]:
    for name in ("model", "signer"):
        wanted = getattr(rule.policy, name)
        if wanted is not None and (presented.init_data is None or presented.init_data.values.get(name) != wanted):
            yield f"the init data does not name the {name} {wanted}"
