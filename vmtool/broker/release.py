"""What the broker serves by: its configuration with everything that it names, read and found fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vmtool.attest.reference import Reference
from vmtool.attest.request import Collateral, Roots
from vmtool.broker.spec import LimitsSpec, ReleasePolicy
from vmtool.frozen import dataclass
from vmtool.serving.access_list import Certificates


@dataclass(frozen=True)
class Rule:
    """A resource's file, its policy, and the values that the policy names."""

    file: Path
    policy: ReleasePolicy
    reference: Reference | None


@dataclass(frozen=True)
class ReleaseRules:
    """All of it.

    Args:
        rules: by the resource's name.
        certificates: None for plain HTTP.
        renewed: the current certificates: issued again by vmtool's CA, or read again. Raises as `read_release`.
    """

    address: tuple[str, int]
    certificates: Certificates | None
    audit: Path
    roots: Roots
    collateral: Collateral
    limits: LimitsSpec
    rules: Mapping[str, Rule]
    renewed: Callable[[], Certificates | None] = lambda: None
