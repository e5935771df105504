"""What follows when a claim failed, or could not be checked where that is not enough."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.claims import Claim, unmet
from vmtool.errors import VerificationFailed
from vmtool.instance.instance import InstanceRecord

# Before the workload gets its keys these must be proven: "not checked" is not enough.
PROVEN = ("process.", "image.digest", "task.")


def require_request(record: InstanceRecord, claims: Sequence[Claim]) -> None:
    """Nothing that was requested may have failed.

    Raises:
        VerificationFailed: a claim has.
    """
    if failed := unmet(claims, confidential=record.confidential):
        raise VerificationFailed(f"{record.name} runs, but not as it was asked for: {', '.join(failed)}",
                                 details=_evidence(claims, failed),
                                 hint=f"vmtool logs {record.name}, then: vmtool rm {record.name}")


def require_before_key(record: InstanceRecord, claims: Sequence[Claim]) -> None:
    """The workload gets its keys only when nothing failed, and its process and image are proven to be the right ones.

    Raises:
        VerificationFailed: otherwise.
    """
    failed = unmet(claims, confidential=record.confidential)
    failed += [claim.id for claim in claims if claim.verdict == "not-checked" and claim.id.startswith(PROVEN)]
    if failed:
        raise VerificationFailed(f"{record.name} is not what was asked for, so it gets no key: {', '.join(failed)}",
                                 details=_evidence(claims, failed), hint=f"vmtool logs {record.name}")


def _evidence(claims: Sequence[Claim], ids: Sequence[str]) -> list[str]:
    return [f"{claim.id}: {claim.evidence}" for claim in claims if claim.id in ids]
