"""Calls to one server by HTTP(S): bounded in time and size; redirects are not followed, proxies not asked."""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from vmtool.serving.bounded_sockets import BoundedSocket, BoundedTls
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import strict_json
from vmtool.serving.kbs.errors import KeyNotReleased, printable

MOST_ANSWER = 2 << 20


@dataclass(frozen=True)
class Answer:
    """Status, body, and the cookies that it sets, by name."""

    status: int
    body: bytes
    cookies: Mapping[str, str]

    def json(self, what: str) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            Untrusted: it is none.
        """
        found = strict_json(self.body, what)
        if not isinstance(found, dict):
            raise Untrusted(f"{what} is not a JSON object")
        return found


@dataclass(frozen=True)
class HttpServer:
    """Where to call.

    Args:
        url: its address, such as https://kbs.lab:8080; plain HTTP only on this machine's own addresses.
        ca: the only CAs that its certificate may lead to, as PEM; needed with https.
        seconds: that each call may take, from its first packet to its last.
    """

    url: str
    ca: str = ""
    seconds: float = 30.0

    def check(self) -> None:
        """Check the address.

        Raises:
            KeyNotReleased: it is none, or would be called without a pinned CA.
        """
        place = _place(self.url)
        if place.scheme == "https" and not self.ca:
            raise KeyNotReleased("broker", f"{self.url}: the CA of its certificate is not given")
        if place.scheme == "http" and not _is_own(place.hostname or ""):
            raise KeyNotReleased("broker", f"{self.url}: only this machine is called by plain HTTP", "use https://")

    def call(self, step: str, method: str, path: str, body: object = None,
             headers: Mapping[str, str] = {}) -> Answer:
        """One request and its answer.

        Args:
            step: its name, for whom it fails.
            body: JSON values to send.

        Raises:
            KeyNotReleased: there is no whole answer in time.
        """
        data = None if body is None else json.dumps(body).encode()
        more = {} if data is None else {"Content-Type": "application/json"}
        try:
            return self._sent(method, path, data, {**headers, **more})
        except ssl.SSLCertVerificationError as error:
            raise KeyNotReleased(step, f"{self.url}: its certificate is not of the given CA: {error.verify_message}"
                                 ) from error
        except TimeoutError as error:
            raise KeyNotReleased(step, f"{self.url}: no whole answer within {self.seconds:g} s") from error
        except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
            said = printable(getattr(error, "strerror", None) or f"{error}") or type(error).__name__
            raise KeyNotReleased(step, f"{self.url}: {said}") from error

    def _sent(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        place, ends = _place(self.url), time.monotonic() + self.seconds
        plain = place.scheme == "http"
        connection = http.client.HTTPConnection(place.hostname or "", place.port or (80 if plain else 443),
                                                timeout=self.seconds)
        try:
            connection.connect()
            connection.sock = BoundedSocket(fileno=connection.sock.detach()) if plain else self._tls(connection)
            cast(Any, connection.sock).ends = ends
            connection.sock.settimeout(self.seconds)
            connection.request(method, place.path.rstrip("/") + path, body, {"Connection": "close", **headers})
            reply = connection.getresponse()
            data = reply.read(MOST_ANSWER + 1)
            if len(data) > MOST_ANSWER:
                raise ValueError(f"the answer has more than {MOST_ANSWER >> 20} MiB")
            if reply.length:
                raise ValueError(f"it broke off {reply.length} bytes before the end of its answer")
            return Answer(reply.status, data, _cookies(reply.headers.get_all("Set-Cookie") or ()))
        finally:
            connection.close()

    def _tls(self, connection: http.client.HTTPConnection) -> BoundedTls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # asks for a certificate of this name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.ca)
        context.sslsocket_class = BoundedTls
        return cast(BoundedTls, context.wrap_socket(connection.sock, server_hostname=connection.host))


def _place(url: str) -> urllib.parse.SplitResult:
    try:
        place = urllib.parse.urlsplit(url)
        usable = place.scheme in ("http", "https") and place.hostname and (place.port or 1) and not (
            place.query or place.fragment or place.username or place.password)
    except ValueError:
        usable = False
    if not usable:
        raise KeyNotReleased("broker", f"{printable(url)!r} is no address of a broker", "https://HOST:PORT")
    return place


def _is_own(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _cookies(lines: Any) -> dict[str, str]:
    """Name and value; the rest of a cookie says how long it lives, and one exchange is shorter."""
    pairs = (line.partition(";")[0].partition("=") for line in lines)
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}
