"""A piece of evidence, before it is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vmtool.attest.appraisal import Appraisal
from vmtool.attest.request import Request
from vmtool.frozen import dataclass

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True)
class Evidence:
    """One piece.

    Args:
        label: what the ids of its claims begin with.
        appraise: makes the claims; may raise anything.
        is_gpu: whether it is a GPU's, of which a number can be required.
        certificates: that came with it and may have issued revocation lists; nobody has verified them.
    """

    label: str
    title: str
    appraise: Callable[[Request], Appraisal]
    is_gpu: bool = False
    certificates: Sequence[x509.Certificate] = ()
