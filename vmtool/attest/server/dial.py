"""Connections to a server, each with the digest of the TLS key that it shows."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from vmtool.attest.cursor import require
from vmtool.attest.server.errors import NotVerified, Unreachable
from vmtool.attest.server.place import Place, is_loopback
from vmtool.serving.evidence.binding import NO_KEY, key_digest, public_key_info
from vmtool.serving.front.upstream import Upstream

SECONDS = 10.0


async def dial(place: Place, buffered: int) -> tuple[Upstream, bytes]:
    """A connection over which nothing was sent yet, and the digest of its key.

    Raises:
        Unreachable: there is none.
        NotVerified: its certificate is not the expected one, or it is without TLS and not of this machine.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(SECONDS):
            _, made = await loop.create_connection(
                lambda: Upstream(buffered), place.host, place.port, ssl=place.context,
                server_hostname=place.host if place.context else None)
    except ssl.SSLCertVerificationError as error:
        raise NotVerified(f"{place}: its certificate is refused: {error.verify_message}") from error
    except (OSError, ValueError) as error:
        raise Unreachable(f"{place} cannot be reached: {_reason(error)}") from error
    try:
        return made, _key(place, made.transport)
    except BaseException:
        made.drop()
        raise


@asynccontextmanager
async def dialled(place: Place, buffered: int) -> AsyncIterator[tuple[Upstream, bytes]]:
    """The same, ended afterwards."""
    made, key = await dial(place, buffered)
    try:
        yield made, key
    finally:
        made.drop()


def _key(place: Place, wire: asyncio.Transport) -> bytes:
    if not place.context:
        if not is_loopback(wire.get_extra_info("peername")[0]):
            raise NotVerified(f"{place}: without TLS only this machine's own loopback is taken")
        return NO_KEY
    shown = wire.get_extra_info("ssl_object").getpeercert(binary_form=True)
    try:
        info = public_key_info(shown)
        # What was cut out must be the very key with which OpenSSL has just verified the handshake.
        require(load_der_public_key(info) == x509.load_der_x509_certificate(shown).public_key(), "two readings")
        return key_digest(shown)
    except Exception as error:
        raise NotVerified(f"{place}: its certificate cannot be read") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {SECONDS:.0f} s"
    if isinstance(error, ssl.SSLError):
        return f"no TLS 1.3 ({error.reason or error})"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
