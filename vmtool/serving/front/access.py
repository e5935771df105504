"""Who may ask: peers of allowed networks, with a key or a token."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import web

from vmtool.serving.access_list import digest_of
from vmtool.serving.front.denied import Denied

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check_peer(host: str, allow_from: Iterable[Network]) -> None:
    """Refuse a peer of another network; without networks any may come."""
    networks = tuple(allow_from)
    if not networks:
        return
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not any(address in network for network in networks):
        raise Denied(403, "not from this address")


def shown_digest(request: web.BaseRequest) -> bytes:
    """The digest of the key that a request shows: one, as OpenAI's clients do or as Anthropic's do; else of none."""
    bearers = [value.partition(" ") for value in request.headers.getall("Authorization", ())]
    given = [word.strip() if scheme.lower() == "bearer" else "" for scheme, _, word in bearers]
    given += request.headers.getall("X-Api-Key", ())
    return digest_of(given[0].encode("utf-8", "surrogateescape")) if len(given) == 1 and given[0] else b""


def no_key() -> Denied:
    return Denied(401, "a valid API key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
