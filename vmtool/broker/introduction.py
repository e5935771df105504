"""A guest's TPM that introduces its attestation key: the challenge by which its maker's certificate vouches for it."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from vmtool.attest.appraisal import describe
from vmtool.attest.certificates import load_certificates
from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import from_base64, mapping
from vmtool.attest.request import Request
from vmtool.attest.tpm.challenge import challenge_of
from vmtool.broker.release import ReleaseRules
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.kbs.attesters import METADATA, TPM

# Of base64: a key's public part, and a certificate with its intermediates.
MOST = 24 << 10
_MEMBERS = frozenset({"ak_public", "ek_certificate"})


def introduction_of(values: dict[str, Any]) -> Any:
    """What a request for a challenge says of the guest's TPM; None when it says nothing."""
    found: Any = values.get("extra-params") if values.get("tee") == TPM else None
    for name in (METADATA, "primary_tee", "metadata"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def challenge_tpm(introduction: Any, release: ReleaseRules, at: datetime) -> tuple[dict[str, str], bytes]:
    """What the guest is answered, and the challenge as it is kept.

    Raises:
        Untrusted: there is none for it, and why. Its key may be enrolled.
    """
    try:
        parts = {name: from_base64(text, name) for name, text in mapping(introduction, TPM, _MEMBERS).items()
                 if isinstance(text, str) and len(text) <= MOST}
        require(set(parts) == _MEMBERS, f"{TPM} has ak_public and ek_certificate")
        given, kept = challenge_of(parts["ak_public"], load_certificates(parts["ek_certificate"]),
                                   Request(release.roots, at, release.collateral))
    except BaseException as error:
        raise Untrusted(describe(error)) from None
    return {TPM: base64.b64encode(given).decode()}, kept.encode()
