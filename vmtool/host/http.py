"""HTTP requests, bounded in time and size; proxies of the environment are not asked."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import cast

from vmtool.machine import Trust
from vmtool.serving.bounded_sockets import BoundedSocket, BoundedTls

MAX_ANSWER = 1 << 20
# X509_V_FLAG_NO_CHECK_TIME of OpenSSL, for which Python has no name.
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
MAX_LINE = 1 << 20
MAX_STREAM = 64 << 20
# What http.client raises of an answer that is no HTTP; of sizes of chunks that are none it does not think.
MALFORMED = (http.client.HTTPException, ValueError, OverflowError)


def request(method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: float,
            trust: Trust | None = None) -> tuple[int, str]:
    """Status and text; status 0 and the reason when there is no whole answer within `deadline` seconds."""
    try:
        with _sent(method, url, headers, body, deadline, trust) as reply:
            data = b"".join(_chunks(reply))
            return reply.status, data.decode(errors="replace")
    except (OSError, *MALFORMED) as error:
        return 0, _reason(error)


def shown_certificate(host: str, port: int, deadline: float) -> bytes:
    """The certificate that a server shows, as PEM; empty when it shows none within `deadline` seconds."""
    try:
        with socket.create_connection((host, port), deadline) as plain, unknown_server().wrap_socket(plain) as shown:
            return ssl.DER_cert_to_PEM_cert(shown.getpeercert(binary_form=True) or b"").encode()
    except OSError:
        return b""


def unknown_server() -> ssl.SSLContext:
    """A context that takes any certificate of TLS 1.3: what it is worth is found out otherwise."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.check_hostname = ssl.TLSVersion.TLSv1_3, False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def stream(method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: float,
           trust: Trust | None = None) -> Iterator[tuple[int, Iterator[str]]]:
    """Status and lines, as they come; the last one within `deadline` seconds.

    Raises:
        OSError: there is no answer, it broke off, or it is larger than `MAX_STREAM`.
    """
    try:
        with _sent(method, url, headers, body, deadline, trust) as reply:
            yield reply.status, _lines(reply)
    except MALFORMED as error:
        raise ConnectionError(_reason(error)) from error


def known_server(trust: Trust) -> ssl.SSLContext:
    """A context that takes the server's own certificate, which has not ended unless that is no matter, and no other
    that it has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.check_hostname = ssl.TLSVersion.TLSv1_3, False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if trust.ended:
        context.verify_flags |= NO_CHECK_TIME
    context.load_verify_locations(trust.directory / "trusted.pem")
    if trust.own:
        context.load_cert_chain(trust.directory / "client.pem")
    context.sslsocket_class = BoundedTls
    return context


def _chunks(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    size = 0
    while data := reply.read1(MAX_ANSWER):
        size += len(data)
        if size > MAX_ANSWER:
            raise ConnectionError(f"the answer has more than {MAX_ANSWER >> 20} MiB")
        yield data
    if reply.length:
        raise ConnectionError(f"it broke off {reply.length} bytes before the end of its answer")


def _lines(reply: http.client.HTTPResponse) -> Iterator[str]:
    size = 0
    while line := reply.readline(MAX_LINE):
        size += len(line)
        if len(line) == MAX_LINE or size > MAX_STREAM:
            raise ConnectionError("the answer is larger than any answer of a model")
        yield line.decode(errors="replace").rstrip("\r\n")


@contextlib.contextmanager
def _sent(method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: float,
          trust: Trust | None) -> Iterator[http.client.HTTPResponse]:
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=deadline)
    ends = time.monotonic() + deadline
    try:
        connection.connect()
        connection.sock = _bounded(connection.sock, trust)
        connection.sock.ends = ends
        connection.sock.settimeout(deadline)
        connection.request(method, place.path, body, dict(headers))
        yield connection.getresponse()
    finally:
        connection.close()


def _bounded(plain: socket.socket, trust: Trust | None) -> BoundedSocket | BoundedTls:
    return cast(BoundedTls, known_server(trust).wrap_socket(plain)) if trust else BoundedSocket(fileno=plain.detach())


def _reason(error: Exception) -> str:
    # A certificate that is not taken is a ValueError as well.
    if isinstance(error, ValueError | OverflowError) and not isinstance(error, OSError):
        return "no HTTP: a chunk of no possible size"
    # Of an answer that is no HTTP it is the first line, whatever that is.
    text = " ".join(f"{error}".split())[:200] or type(error).__name__
    return f"no HTTP: {text}" if isinstance(error, http.client.BadStatusLine) else text
