"""A claim about something that runs: proven, failed, or not checked, with what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from vmtool.frozen import dataclass

Verdict = Literal["proven", "failed", "not-checked"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

# That the guest runs in its TEE: by evidence, which comes over the network.
GUEST_TEE = "guest.tee"
# A guest's own word is weaker than an attestation: whoever made another guest can have it say the same.
WORD = "the guest says (not attested): "


@dataclass(frozen=True)
class Claim:
    """One claim about a running instance, with what it rests on."""

    id: str
    verdict: Verdict
    evidence: str


def unmet(claims: Iterable[Claim], *, confidential: bool) -> list[str]:
    """Ids of what was asked for and is not so. That a guest without a TEE is not confidential was asked for."""
    return [claim.id for claim in claims if claim.verdict == "failed" and (claim.id != "tee" or confidential)]
