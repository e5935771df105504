"""Base64 of the URL alphabet without padding (RFC 7515, 2), in its one canonical spelling."""

from __future__ import annotations

import base64
import binascii

from vmtool.serving.cryptotensors.errors import Untrusted


def encode(data: bytes) -> str:
    """As JOSE has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: object, what: str, length: int | None = None) -> bytes:
    """The bytes.

    Args:
        length: how many there must be; None for any number.

    Raises:
        Untrusted: it is another text, or has another length.
    """
    try:
        padded = text + "=" * (-len(text) % 4) if isinstance(text, str) else ""
        data = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Untrusted(f"{what}: not base64 of the URL alphabet") from None
    if encode(data) != text or (length is not None and len(data) != length):
        raise Untrusted(f"{what}: not {'any' if length is None else length} bytes in base64 of the URL alphabet")
    return data
