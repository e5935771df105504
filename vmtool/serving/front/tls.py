"""TLS 1.3 before the front: a context that takes another certificate while it serves, and bounded handshakes."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import base64
import contextlib
import dataclasses
import datetime
import os
import ssl
import textwrap
from typing import TYPE_CHECKING, Any, cast

from vmtool.serving.access_list import Certificates
from vmtool.serving.evidence.binding import key_digest

if TYPE_CHECKING:
    from vmtool.serving.front.connection import Connection


# Of a certificate that the front makes: it is known by its key, whatever a guest's clock says, and never renewed.
BEGINS = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
ENDS = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


class Tls:
    """What the listeners show, and whom they ask for a certificate of theirs.

    Attributes:
        key: the digest of the public key that new connections see.

    Raises:
        ValueError: the certificate does not fit its key, something is no certificate, or no key can be made.
    """

    def __init__(self, asked: Certificates) -> None:
        shown = make_own(asked) if asked.own else asked
        self.shown, self.key = shown, key_digest(shown.chain[0])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.set_alpn_protocols(["http/1.1"])
        _load(self.context, shown)
        if shown.clients:
            self.context.verify_mode = ssl.CERT_REQUIRED
            try:
                self.context.load_verify_locations(cadata="".join(map(_pem, shown.clients)))
            except ssl.SSLError as error:
                raise ValueError(f"the CA of the clients: {error.reason or error}") from None

    def change(self, shown: Certificates) -> None:
        """From now on new connections see this certificate; those that are there keep theirs.

        Raises:
            ValueError: as the constructor; or whose certificates are taken would change, or who has the key.
        """
        if shown.own != self.shown.own:
            raise ValueError("whether the key is made in here is settled at the start")
        if set(shown.clients) != set(self.shown.clients):
            raise ValueError("another CA of the clients takes a new start")
        if shown.own:
            return
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), shown)  # a pair that does not fit must not replace half of one
        key = key_digest(shown.chain[0])
        _load(self.context, shown)
        self.shown, self.key = shown, key


class EncryptedConnection(asyncio.sslproto.SSLProtocol):
    """TLS below a connection, which is counted and has its deadline from the first packet, not from the handshake."""

    # asyncio reserves that much for each connection; its own number is 256 KiB.
    max_size = 16 << 10

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection, tls: Tls) -> None:
        limits = connection.limits
        super().__init__(
            loop, connection, tls.context, None, server_side=True, ssl_handshake_timeout=limits.keyless_seconds,  # type: ignore[arg-type]
            ssl_shutdown_timeout=limits.closing_seconds)
        self.connection, self.tls = connection, tls
        base = cast(Any, self)  # typeshed leaves out what asyncio has for itself
        # What waits in here unread while aiohttp takes nothing; asyncio's own number is 256 KiB.
        base._set_read_buffer_limits(high=limits.buffered)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)
        wire.set_write_buffer_limits(high=self.connection.limits.buffered)
        self.connection.enter(wire)
        # OpenSSL copies the certificate when a connection begins: what is shown later is of others.
        self.connection.key = self.tls.key
        super().connection_made(wire)

    def begin(self, first: bytes) -> None:
        while first and self.connection.wire and not self.connection.wire.is_closing():
            buffer = self.get_buffer(len(first))
            size = min(len(buffer), len(first))
            buffer[:size] = first[:size]
            self.buffer_updated(size)
            first = first[size:]

    def get_buffer(self, n: int) -> memoryview:
        return super().get_buffer(n)[:self.connection.piece]

    def connection_lost(self, exc: BaseException | None) -> None:
        self.connection.gone()
        super().connection_lost(exc)

    def _do_read__copied(self) -> None:
        # As asyncio's, but for its last read, of nothing: OpenSSL's word for that is a third of what a request costs.
        base = cast(Any, self)
        engine, incoming, chunks = base._sslobj, base._incoming, list[bytes]()
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLSyscallError):
            chunks.append(engine.read(self.max_size))
            while chunks[-1] and (incoming.pending or engine.pending()):
                chunks.append(engine.read(self.max_size))
        if data := b"".join(chunks):
            base._app_protocol.data_received(data)
        if chunks and not chunks[-1]:  # the peer has ended it
            base._call_eof_received()
            base._start_shutdown()


def make_own(asked: Certificates) -> Certificates:
    """A key that is nowhere but in this process, with a certificate that it signs itself: clients know it by its
    digest, which evidence is bound to.

    Raises:
        ValueError: this image has no cryptography.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError as error:
        raise ValueError(f"no key of TLS can be made in here: this image has no Python package {error.name}") from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a key made by this endpoint")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(BEGINS).not_valid_after(ENDS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256()))
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return dataclasses.replace(asked, chain=(certificate.public_bytes(serialization.Encoding.DER),), key=der)


def _load(context: ssl.SSLContext, shown: Certificates) -> None:
    """OpenSSL takes files only; this one has no name, and is in no file system."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, ("".join(map(_pem, shown.chain)) + _pem(shown.key, "PRIVATE KEY")).encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise ValueError(f"the certificate and its key: {error.reason or error}") from None
    finally:
        os.close(descriptor)


def _pem(der: bytes, kind: str = "CERTIFICATE") -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n"
