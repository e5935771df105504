"""What evidence must vouch for: SHA-384 over canonical JSON (RFC 8785) of the session's nonce and the guest's key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785


def report_digest(nonce: str, jwk: Mapping[str, str], additional: str) -> bytes:
    """For evidence of the guest."""
    return _digest({"additional-evidence": additional, "nonce": nonce, "tee-pubkey": dict(jwk)})


def device_digest(nonce: str, jwk: Mapping[str, str]) -> bytes:
    """For evidence of its devices."""
    return _digest({"nonce": nonce, "tee-pubkey": dict(jwk)})


def _digest(values: Any) -> bytes:
    return hashlib.sha384(rfc8785.dumps(values)).digest()
