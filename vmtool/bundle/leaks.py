"""Secrets in what is to be handed out: an instance's own keys and tokens in whatever form, and private keys of any."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping

# Blocks of PEM that are for everybody.
PUBLIC = re.compile(rb"-----BEGIN (CERTIFICATE|PUBLIC KEY)-----[^-]*-----END \1-----")
BOUNDARY = re.compile(rb"-----[A-Z0-9 ]+-----")
# No API key is shorter (vmtool.serving.access_list); what is, occurs by chance.
LEAST = 16
# The private members of a JWK; its others are for everybody.
PRIVATE = re.compile(rb'"(?:k|d|p|q|dp|dq|qi)"\s*:\s*"([^"]+)"')
# A key by its form, whoever it is of: PEM, or the private members of a JWK (RFC 7517, RFC 7518).
FORMS = (re.compile(rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"),
         re.compile(rb'\\?"(?:k|d)\\?"\s*:\s*\\?"[A-Za-z0-9+/_=-]{16,}'))


def find_leaks(secrets: Mapping[str, bytes], members: Mapping[str, bytes]) -> list[str]:
    """Which secret is in which member.

    Args:
        secrets: content of secret files by their name.
    """
    forms = {name: list(_forms(content)) for name, content in secrets.items()}
    found = []
    for member, content in members.items():
        found += [f"{member} has what is in {name}" for name, words in forms.items()
                  if any(word in content for word in words)]
        found += [f"{member} has a private key" for _ in range(_has_key(content))]
    return found


def _has_key(content: bytes) -> bool:
    """Also as hexadecimal digits, in which facts are kept."""
    texts = (content, *(bytes.fromhex(digits.decode()) for digits in re.findall(rb"(?:[0-9a-f]{2}){64,}", content)))
    return any(form.search(text) for text in texts for form in FORMS)


def _forms(content: bytes) -> Iterator[bytes]:
    """What would give a secret away: each of its words, also as hexadecimal digits and in base64."""
    is_json = content.lstrip()[:1] in (b"{", b"[")
    for word in PRIVATE.findall(content) if is_json else BOUNDARY.sub(b"", PUBLIC.sub(b"", content)).split():
        if len(word) >= LEAST:
            yield word
            yield word.hex().encode()
            yield from (_base64(word, skipped) for skipped in range(3))


def _base64(word: bytes, skipped: int) -> bytes:
    """Its characters in base64 whatever is around it, when so many of its bytes belong to a group before it."""
    whole = word[(3 - skipped) % 3:]
    return base64.b64encode(whole[:len(whole) // 3 * 3]) or word
