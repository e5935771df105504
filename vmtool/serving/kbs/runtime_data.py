"""What evidence vouches for: SHA-384 over the canonical JSON (RFC 8785) of the nonce and the guest's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical(values: Mapping[str, Any]) -> bytes:
    """RFC 8785 of texts below ASCII names, in which Python's JSON writes no text in another way.

    Raises:
        ValueError: a text has half of a character (a surrogate).
    """
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def device_data(nonce: str, jwk: Mapping[str, str]) -> bytes:
    """What evidence of a device beside the guest, such as a GPU, vouches for."""
    return hashlib.sha384(canonical({"nonce": nonce, "tee-pubkey": jwk})).digest()


def report_data(nonce: str, jwk: Mapping[str, str], additional: str) -> bytes:
    """What the guest's own evidence vouches for.

    Args:
        additional: evidence of devices, as the JSON text that is sent; empty for none.
    """
    return hashlib.sha384(canonical({"additional-evidence": additional, "nonce": nonce, "tee-pubkey": jwk})).digest()
