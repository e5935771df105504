"""The TEEs that vmtool knows. A new one is a file beside this one, its line in the table, and its name."""

from __future__ import annotations

from typing import Literal, get_args

from vmtool.tee.snp import SNP
from vmtool.tee.tdx import TDX
from vmtool.tee.tee import Tee
from vmtool.tee.virtcca import VIRTCCA

NONE: Literal["none"] = "none"
# In the order in which they are listed to a person.
TeeName = Literal["none", "virtcca", "snp", "tdx"]
TEE_NAMES: tuple[TeeName, ...] = get_args(TeeName)
BY_NAME: dict[str, Tee] = {tee.name: tee for tee in (VIRTCCA, SNP, TDX)}


def tee_of(name: str) -> Tee | None:
    """The TEE of that name; None for "none"."""
    return BY_NAME.get(name)
