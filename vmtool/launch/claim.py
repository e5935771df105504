"""A claim about something that runs: proven, failed, or not checked, with what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["proven", "failed", "not-checked"]


@dataclass(frozen=True)
class Claim:
    """One claim about a running instance, with what it rests on."""

    id: str
    verdict: Verdict
    evidence: str
