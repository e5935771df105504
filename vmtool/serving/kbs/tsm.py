"""Reports of the kernel's Trusted Security Module interface, in the protocol's form of each TEE's evidence."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmtool.serving.evidence import tsm
from vmtool.serving.evidence.guest import Guest, LocalGuest, NotCollected
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.snp_json import snp_evidence


def _tdx(quote: bytes, more: bytes) -> dict[str, Any]:
    return {"cc_eventlog": None, "quote": base64.b64encode(quote).decode()}


def _cca(token: bytes, more: bytes) -> dict[str, Any]:
    return {"token": list(token)}


# The kind of a report, which is also the protocol's name of the TEE -> its evidence's form.
FORMS: Mapping[str, Callable[[bytes, bytes], dict[str, Any]]] = {"snp": snp_evidence, "tdx": _tdx, "cca": _cca}


@dataclass(frozen=True)
class TsmReports:
    """Those of a guest's kernel."""

    guest: Guest = field(default_factory=LocalGuest)

    def tee(self) -> str:
        """Of this guest; empty when the kernel has no such interface, or knows no TEE."""
        return tsm.kind_of(self.guest)

    def evidence(self, digest: bytes) -> dict[str, Any]:
        """Evidence that vouches for the digest.

        Raises:
            KeyNotReleased: the kernel gives none.
        """
        try:
            found = tsm.collect(self.guest, digest)
            if found is None:
                raise KeyNotReleased("evidence", f"{tsm.ROOT}: the kernel makes no reports")
            return FORMS[found.kind](found.evidence, found.certificates)
        except (OSError, ValueError, NotCollected) as error:
            raise KeyNotReleased("evidence", f"{tsm.ROOT}: {error}") from None
