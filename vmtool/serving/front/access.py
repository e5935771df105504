"""Who may ask: peers of allowed networks, with a key."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable

from aiohttp import web

from vmtool.serving.front.denied import Denied

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Access:
    """The keys and the networks.

    Args:
        keys: valid API keys; only their digests are kept.
        allow_from: networks a peer may come from; empty for any.
    """

    def __init__(self, keys: Iterable[bytes], allow_from: Iterable[Network]) -> None:
        self.digests = tuple(hashlib.sha256(key).digest() for key in keys)
        self.allow_from = tuple(allow_from)

    def check_peer(self, host: str) -> None:
        """Refuse a peer of another network."""
        if not self.allow_from:
            return
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if not any(address in network for network in self.allow_from):
            raise Denied(403, "not from this address")

    def check_key(self, request: web.BaseRequest) -> int:
        """Which key it is. One is given, as OpenAI's clients do or as Anthropic's do."""
        bearers = [value.partition(" ") for value in request.headers.getall("Authorization", ())]
        given = [word.strip() if scheme.lower() == "bearer" else "" for scheme, _, word in bearers]
        given += request.headers.getall("X-Api-Key", ())
        digest = hashlib.sha256(given[0].encode("utf-8", "surrogateescape") if len(given) == 1 else b"").digest()
        # Every key is compared, each in constant time, so that time tells neither how much nor which one matched.
        matches = [hmac.compare_digest(digest, valid) for valid in self.digests]
        if not any(matches):
            raise Denied(401, "a valid API key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
        return matches.index(True)
