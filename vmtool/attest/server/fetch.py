"""Asking a server for its evidence, within bounds of time and size."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from types import MappingProxyType

from vmtool.attest.server.dial import dialled
from vmtool.attest.server.errors import NotNow, NotVerified
from vmtool.attest.server.place import Place
from vmtool.frozen import dataclass
from vmtool.serving.evidence.binding import NONCE, PATH
from vmtool.serving.front.pool import written
from vmtool.serving.front.upstream import Upstream

MOST, SECONDS, BUFFERED = 1 << 20, 30.0, 64 << 10
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
# A server that says so is asked again later.
BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Answered:
    """What a server answers to the nonce, on a connection with that key."""

    data: bytes
    nonce: bytes
    key: bytes


async def fetch(place: Place, nonce: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS) -> Answered:
    """Ask once, on a connection of its own.

    Args:
        nonce: 32 bytes; None for new random ones.
        headers: with the key of whoever has one.

    Raises:
        Unreachable: it is not there. NotNow: it is busy, too slow, or breaks off.
        NotVerified: what comes is no evidence.
    """
    nonce = nonce or secrets.token_bytes(NONCE)
    async with dialled(place, BUFFERED) as (made, key):
        head, _ = written("GET", f"{PATH}?nonce={nonce.hex()}", place.authority,
                          {"Accept": "application/json", **headers})
        try:
            async with asyncio.timeout(SECONDS):
                await made.send(head, ())
                _check_head(place, made)
                return Answered(await _body(made), nonce, key)
        except TimeoutError:
            raise NotNow(f"{place} gives no evidence within {SECONDS:.0f} s") from None
        except OSError as error:
            raise NotNow(f"{place} breaks off instead of giving evidence: {error}") from error


def _check_head(place: Place, made: Upstream) -> None:
    headers: Mapping[bytes, bytes] = {name.lower(): value for name, value in made.headers}
    if made.status in BUSY:
        raise NotNow(f"{place} gives no evidence at the moment (status {made.status})")
    if 300 <= made.status < 400:
        raise NotVerified(f"{place} answers with a redirect instead of evidence")
    if made.status != 200:
        raise NotVerified(f"{place} gives no evidence (status {made.status}): it is another kind of server, or was "
                          "launched by an earlier release")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise NotVerified(f"{place} answers with a compressed body, which nobody asked for")
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise NotVerified(f"{place} answers with something that is no JSON")


async def _body(made: Upstream) -> bytes:
    data = bytearray()
    while piece := await made.read():
        data += piece
        if len(data) > MOST:
            raise NotVerified(f"the evidence has more than {MOST >> 10} KiB")
    return bytes(data)
